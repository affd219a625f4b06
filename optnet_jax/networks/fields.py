"""What the fields of networks may hold, by kind, and what they declare as learned."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.core import Tracer

from optnet_jax.errors import InputError
from optnet_jax.kinds import INT32, Items, OneOf, Range, Rule
from optnet_jax.networks.activation import NAMES
from optnet_jax.networks.dense_layer import DENSE_BLOCKS
from optnet_jax.networks.units import BLOCKS
from optnet_jax.recurrences import methods
from optnet_jax.recurrences.base import METHODS, numbers
from optnet_jax.recurrences.history_sum import NESTEROV
from optnet_jax.structures import fields


def _are_finite(value: Any) -> bool:
    try:
        return isinstance(value, Tracer) or numbers("it", value).size > 0
    except InputError:
        return False


def _are_weights(value: Any) -> bool:
    if isinstance(value, str):
        return value == NESTEROV
    is_each = isinstance(value, tuple | list) and all(
        _are_finite(v) and np.ndim(v) == 2 for v in value
    )
    return bool(is_each and value) or _are_finite(value)


def _is_floating(value: Any) -> bool:
    if isinstance(value, jax.Array | np.ndarray):
        return False
    try:
        return bool(jnp.issubdtype(jnp.dtype(value), jnp.floating))
    except (TypeError, ValueError):
        return False


def _is_block(value: Any) -> bool:
    known = (*BLOCKS, *DENSE_BLOCKS)
    is_class = callable(value) and not isinstance(value, nn.Module)
    return value in known if isinstance(value, str) else is_class


def _is_recurrence(value: Any) -> bool:
    if isinstance(value, str):
        return value in (known.key for known in methods.METHODS)
    return not inspect.isclass(value) and all(hasattr(value, n) for n in METHODS)


def are_several(value: Any) -> bool:
    """Return whether a field holds a tuple of recurrences, and not one that is one."""
    return isinstance(value, tuple) and not _is_recurrence(value)


def _are_recurrences(value: Any) -> bool:
    return all(map(_is_recurrence, value if are_several(value) else (value,)))


Channels = Annotated[int, Range(least=1, most=2**16)]
Classes = Annotated[int, Range(least=1, most=10**6)]
StageSizes = Annotated[tuple[fields.AtLeastOne, ...], Items(least=1)]
Widths = Annotated[tuple[Channels, ...], Items(least=1)]
Group = Annotated[int, Range(least=1, most=INT32)]
Shortcut = Literal["pad", "projection", "none"]
Activation = Annotated[str, OneOf(NAMES)]
Activations = tuple[Activation, ...] | Activation
Dtype = Annotated[Any, Rule('a floating type, such as "bfloat16"', _is_floating)]
Block = Annotated[
    Any, Rule(f"one of {', '.join(BLOCKS)}, or a class such as BasicUnit", _is_block)
]
Coefficient = Annotated[
    Any, Rule("a finite number, below 1e38 or so, or an array of them", _are_finite)
]
Weights = Annotated[
    Any,
    Rule(
        f"a finite number, an array of them, one for each stage, or {NESTEROV!r}",
        _are_weights,
    ),
]
Recurrences = Annotated[
    Any,
    Rule(
        f"a recurrence, with the methods {', '.join(METHODS)}, or the key of a "
        f"built-in one, such as agd, or a tuple of these, one for each stage",
        _are_recurrences,
    ),
]


def method(value: Any) -> Any:
    """Return the recurrence that a field holds, by its key or itself, or the tuple."""
    if are_several(value):
        return tuple(map(method, value))
    return methods.find(value).recurrence() if isinstance(value, str) else value


@contextlib.contextmanager
def declared() -> Iterator[set[str]]:
    """Collect what the modules that run inside the context declare as learned.

    A module declares its learned coefficients by a field ``learned``, the names of
    its parameters that are such: that a recurrence may call them what it likes is why
    no list of names can stand for it.

    >>> from optnet_jax.recurrences import heavy_ball
    >>> from optnet_jax.structures import Propagation
    >>> network = Propagation(heavy_ball(0.3), jnp.tanh, depth=2, learned=("beta1",))
    >>> with declared() as paths:
    ...     _ = network.init(jax.random.key(0), jnp.ones(4))
    >>> paths
    {'beta1'}

    Yields:
        The paths in ``params``, such as ``stage_0.alpha``; filled as modules run. A
        module that only hands the field on adds paths that no parameter has.
    """
    paths: set[str] = set()

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if module.scope is not None:
            names = getattr(module, "learned", ())
            if isinstance(names, tuple):  # a user's may mean something else
                paths.update(".".join((*module.path, name)) for name in names)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        yield paths


def with_fields_of(
    network: Callable[..., nn.Module],
    constructor: Callable[..., nn.Module],
    hidden: Sequence[str] = ("recurrence",),
) -> Any:
    """Show a network's fields, but the hidden, in the place of ``**network``."""
    own = inspect.signature(constructor)
    parameters = {
        name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(network).parameters.items()
        if name not in ("parent", "name", *hidden)
    }
    for name, parameter in own.parameters.items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters[name] = parameter
    constructor.__signature__ = own.replace(parameters=list(parameters.values()))  # pyright: ignore
    return constructor
