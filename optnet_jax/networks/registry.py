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
    """Return the network of a name, with other fields such as ``num_classes=100``.

    It is a linen module: ``module.apply(variables, images, train=bool)`` maps
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
    kinds = _fields(name, "annotation")
    return {f: Any if k is inspect.Parameter.empty else k for f, k in kinds.items()}


def field_defaults(name: str) -> dict[str, Any]:
    """Return the values of a network's fields; none if there is no such network."""
    values = _fields(name, "default")
    return {f: v for f, v in values.items() if v is not inspect.Parameter.empty}


def _fields(name: str, of: str) -> dict[str, Any]:
    if name not in NETWORKS:
        return {}
    parameters = inspect.signature(NETWORKS[name]).parameters
    return {f: getattr(parameters[f], of) for f in field_names(NETWORKS[name])}
