"""The networks by name."""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

from flax import linen as nn

from optnet_jax.errors import InputError, did_you_mean, shown
from optnet_jax.networks import fields
from optnet_jax.networks.feed_forward import FEED_FORWARD_NETWORKS
from optnet_jax.networks.zoo import RECURRENCE_NETWORKS

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    **FEED_FORWARD_NETWORKS,
    **RECURRENCE_NETWORKS,
}
"""Name -> constructor; its keyword arguments override the module's fields."""


def create(name: str, **overrides: Any) -> nn.Module:
    """Return the network ``name``.

    Args:
        name: one of :data:`NETWORKS`.
        **overrides: fields of the network that differ from its defaults, such as
            ``num_classes=100``.

    Returns:
        A linen module: ``module.apply(variables, images, train=bool)`` maps
        [B, H, W, C] to logits [B, num_classes], float32.

    Raises:
        InputError: an unknown name or field, or a value that the field cannot have.
    """
    if not isinstance(name, str) or name not in NETWORKS:
        raise InputError(
            f"unknown network {shown(name)}{did_you_mean(name, NETWORKS)}; "
            f"there are {', '.join(NETWORKS)}"
        )
    constructor = NETWORKS[name]
    names = field_names(constructor)
    for field in overrides:
        if field not in names:
            raise InputError(
                f"network {name!r} has no field {shown(field)}"
                f"{did_you_mean(field, names)}; it has {', '.join(names)}"
            )
    fields.check(constructor, overrides)
    return constructor(**overrides)


def field_names(constructor: Callable[..., nn.Module]) -> list[str]:
    """Return the names of the fields that a constructor takes."""
    parameters = inspect.signature(constructor).parameters
    return [name for name in parameters if name not in ("parent", "name")]


def field_kinds(name: str) -> dict[str, Any]:
    """Return the annotations of a network's fields; none if there is no such network.

    Args:
        name: one of :data:`NETWORKS`.
    """
    constructor = NETWORKS.get(name)
    if constructor is None:
        return {}
    names = field_names(constructor)
    while isinstance(constructor, functools.partial):
        constructor = constructor.func
    hints = typing.get_type_hints(constructor, include_extras=True)
    made = hints.get("return")
    if isinstance(made, type):
        # Those that a function hands on to the module that it makes.
        hints = typing.get_type_hints(made, include_extras=True) | hints
    return {field: hints.get(field, Any) for field in names}


def field_defaults(name: str) -> dict[str, Any]:
    """Return the values that a network's fields have where none is given.

    Args:
        name: one of :data:`NETWORKS`; of another, nothing is returned.
    """
    if name not in NETWORKS:
        return {}
    parameters = inspect.signature(NETWORKS[name]).parameters
    return {
        field: parameters[field].default
        for field in field_names(NETWORKS[name])
        if parameters[field].default is not inspect.Parameter.empty
    }
