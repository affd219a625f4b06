"""Copies of a linen module that share nothing with it.

A transform is a template: each layer and each path has a copy of its own. Linen's own
``clone`` copies one module and keeps those that it holds, which would then be one
module, with one set of weights, in all the layers.
"""

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from optnet_jax.errors import InputError


class Applied(nn.Module):
    """A partial or a method of a module, as a module that linen can bind."""

    module: Callable
    args: tuple = ()
    kwargs: Any = dataclasses.field(default_factory=dict)
    method: str = "__call__"

    @nn.compact
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the partial or the method returns."""
        call = getattr(self.module, self.method)
        return call(*self.args, *args, **{**self.kwargs, **kwargs})


def copy(value: Any) -> Any:
    """Return ``value`` with copies in the place of the linen modules that it holds.

    The copies are unbound, and so are the modules in their fields, in tuples, lists,
    dicts, partials and methods of theirs, at any depth. A module that stands in two
    places is one module in the copy, too.

    Raises:
        InputError: a module that cannot be copied: an nnx module, or one that a
            function has closed over.
    """
    return _copy(value, {})


def _copy(value: Any, copies: dict[int, Any]) -> Any:
    if not holds_module(value):
        return value
    if isinstance(value, nn.Module):
        if id(value) not in copies:
            copies[id(value)] = value.clone(
                parent=None,
                name=None,
                **{
                    field.name: _copy(getattr(value, field.name), copies)
                    for field in dataclasses.fields(value)
                    if field.init and field.name not in ("parent", "name")
                },
            )
        return copies[id(value)]
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        function, args, kwargs = (_copy(part, copies) for part in parts)
        if inspect.isclass(function):
            return functools.partial(function, *args, **kwargs)
        return Applied(function, args, kwargs, parent=None)
    if inspect.ismethod(value):
        module = _copy(value.__self__, copies)
        return Applied(module, method=value.__name__, parent=None)
    if inspect.isfunction(value):
        raise InputError(
            f"the function {value.__qualname__} has closed over a module, whose "
            f"weights all layers would share: make it a module with that one as a field"
        )
    if isinstance(value, tuple | list | dict | nn.FrozenDict):
        return jax.tree.map(lambda leaf: _copy(leaf, copies), value, is_leaf=_is_module)
    name = type(value).__name__
    raise InputError(
        f"{name} is an nnx module, whose weights linen does not train: wrap its class, "
        f"flax.nnx.bridge.to_linen({name}, ...)"
    )


def make(factory: Callable[..., nn.Module], name: str) -> Any:
    """Return a module that shares nothing with the next one of the same factory."""
    return copy(factory(parent=None)).copy(name=name)


def holds_module(value: Any) -> bool:
    """Return whether a module stands in a value, at any depth.

    A function that has closed over a module holds it where that module is bound: with
    an unbound one it can do nothing that would share weights.
    """
    if _is_module(value):
        return True
    if isinstance(value, functools.partial):
        return any(map(holds_module, (value.func, value.args, value.keywords)))
    if inspect.ismethod(value):
        return isinstance(value.__self__, nn.Module)
    if inspect.isfunction(value):
        cells = map(_contents, value.__closure__ or ())
        return any(isinstance(c, nn.Module) and c.scope is not None for c in cells)
    if isinstance(value, tuple | list):
        return any(map(holds_module, value))
    if isinstance(value, dict | nn.FrozenDict):
        return any(map(holds_module, value.values()))
    return False


def _is_module(value: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")  # without it nobody has made such a module
    return isinstance(value, nn.Module) or (
        nnx is not None and isinstance(value, nnx.Module)
    )


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None
