"""The networks by name."""

import inspect
from collections.abc import Callable
from typing import Any

from flax import linen as nn

from optnet_jax.errors import InputError, did_you_mean, shown
from optnet_jax.networks import fields
from optnet_jax.networks.feed_forward import FEED_FORWARD_NETWORKS
from optnet_jax.networks.vit import VISION_TRANSFORMERS
from optnet_jax.networks.zoo import RECURRENCE_NETWORKS

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    **FEED_FORWARD_NETWORKS,
    **RECURRENCE_NETWORKS,
    **VISION_TRANSFORMERS,
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
    """Return the annotations of a network's fields; none if there is no such one."""
    return {
        field: Any if parameter.annotation is parameter.empty else parameter.annotation
        for field, parameter in _parameters(name).items()
    }


def field_defaults(name: str) -> dict[str, Any]:
    """Return the values that a network's fields have where none is given.

    Args:
        name: one of :data:`NETWORKS`; of another, nothing is returned.
    """
    return {
        field: parameter.default
        for field, parameter in _parameters(name).items()
        if parameter.default is not parameter.empty
    }


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    if name not in NETWORKS:
        return {}
    parameters = inspect.signature(NETWORKS[name]).parameters
    return {field: parameters[field] for field in field_names(NETWORKS[name])}
