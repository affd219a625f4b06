"""The networks by name."""

import inspect
from collections.abc import Callable
from typing import Any

from flax import linen as nn

from optnet_jax.errors import InputError, did_you_mean, shown
from optnet_jax.kinds import misfit
from optnet_jax.networks.feed_forward import FEED_FORWARD_NETWORKS
from optnet_jax.networks.vit import VISION_TRANSFORMERS
from optnet_jax.networks.zoo import RECURRENCE_NETWORKS
from optnet_jax.structures.fields import check

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
    parameters = _parameters(name)
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    parameters = {field: p for field, p in parameters.items() if not _is_variadic(p)}
    for field in overrides:
        if field not in parameters and not takes_all:
            set_by = ", which config.precision sets" if field == "dtype" else ""
            raise InputError(
                f"network {name!r} has no field {shown(field)}"
                f"{set_by or did_you_mean(field, parameters)}; it has "
                f"{', '.join(parameters) or 'none'}"
            )
    for field, parameter in parameters.items():
        if parameter.default is parameter.empty and field not in overrides:
            raise InputError(f"network {name!r} needs a value of its field {field!r}")
    constructor = NETWORKS[name]
    check(constructor, overrides)
    module = constructor(**overrides)
    _check_module(name, module)
    return module


def _check_module(name: str, module: Any) -> None:
    """Check that what a constructor returns is a network."""
    if not isinstance(module, nn.Module):
        raise InputError(
            f"network {name!r} is a {type(module).__name__}, {shown(module)}: what "
            "NETWORKS holds must return a linen module"
        )
    call = getattr(module, "__call__", None)  # noqa: B004 (not all modules have one)
    if wrong := misfit(call, None, train=False):
        raise InputError(
            f"network {name!r} is called with (images, train), which "
            f"{type(module).__name__} does not take: {wrong}"
        )


def _is_variadic(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def field_kinds(name: str) -> dict[str, Any]:
    """Return the annotations of a network's fields; none if there is no such one."""
    fields = _parameters(name).items()
    return {f: Any if p.annotation is p.empty else p.annotation for f, p in fields}


def field_defaults(name: str) -> dict[str, Any]:
    """Return the values of a network's fields; none if there is no such network."""
    fields = _parameters(name).items()
    return {f: p.default for f, p in fields if p.default is not p.empty}


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    """Return the fields of a network, as its constructor takes them, or none.

    Raises:
        InputError: it is no class, and no function that makes a network.
    """
    if name not in NETWORKS:
        return {}
    constructor = NETWORKS[name]
    try:
        if isinstance(constructor, nn.Module):
            raise TypeError("it is made already")
        parameters = inspect.signature(constructor).parameters.items()
        return {field: p for field, p in parameters if field not in ("parent", "name")}
    except (TypeError, ValueError) as error:
        raise InputError(
            f"NETWORKS[{name!r}] must be the class of a network, or a function that "
            f"makes one, got {shown(constructor)} ({error})"
        ) from error
