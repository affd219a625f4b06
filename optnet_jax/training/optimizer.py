"""SGD with Nesterov momentum and L2 in the gradient, of §7.1, or another of optax."""

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from optnet_jax.configuration.overrides import python_value
from optnet_jax.configuration.train import FLOAT32, Momentum, Optimizer
from optnet_jax.errors import InputError, did_you_mean, one_line, shown
from optnet_jax.kinds import Range, convert
from optnet_jax.training.leaves import flatten

OWN_FIELDS = ("learning_rate", "weight_decay", "mask", "weight_decay_mask")
"""Arguments of optax's functions that other fields than ``options`` give."""

DECAY_RATES = ("b1", "b2", "b3", "beta", "decay", "momentum", "rho")
"""What optax calls the rate at which a moving mean forgets: 1 would not, 2 diverges."""


def create_optimizer(
    config: Optimizer, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Build the optimiser that a config names.

    The default, SGD, is with the gradient g_k of the loss and the L2 coefficient w

        d_k = g_k + w p_k,   v_{k+1} = m v_k + d_k,
        p_{k+1} = p_k - lr_k (d_k + m v_{k+1})   (Nesterov)

    so that the L2 term passes through the momentum, as in the authors' Torch code. An
    optimiser whose function in optax takes ``weight_decay`` and a mask has w as that
    function says: AdamW and Lion add w p_k to the step before it is multiplied by lr_k
    (decoupled). To all others, such as Adam, d_k is the gradient.

    ``clip_norm`` cuts g_k, before the L2 term is added.

    Raises:
        InputError: if optax has none of this name, if it does not take the options, or
            if it needs more than gradients and parameters.
    """
    excluded = frozenset(config.decay_exclude)

    def decayed(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: path[-1].key not in excluded, params
        )

    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    l2 = [optax.add_decayed_weights(config.weight_decay, mask=decayed)]
    function = _function(config.name)
    options = _options(config, function)
    if config.name == "sgd":
        options |= {"momentum": config.momentum, "nesterov": config.nesterov}
    takes = inspect.signature(function).parameters
    masks = [name for name in ("mask", "weight_decay_mask") if name in takes]
    if "weight_decay" in takes and masks:
        l2, options = [], {**options, "weight_decay": config.weight_decay}
        options[masks[0]] = decayed
    try:
        for name, value in options.items():
            if value is not None and name not in masks:
                convert(value, _kind(name, takes[name].default), name)
        optimizer = optax.chain(*clip, *l2, function(schedule, **options))
        params = {"kernel": jnp.ones((2, 2))}
        _, state = jax.eval_shape(
            lambda: optimizer.update(params, optimizer.init(params), params)
        )
        for leaf in jax.tree.leaves(state):
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                raise TypeError("its state has a PRNG key, which no checkpoint holds")
    except Exception as error:
        # Whatever a wrong value of an option, or an argument that lacks, leads to.
        raise InputError(
            f"config.optimizer: optax.{config.name} cannot be used with options="
            f"{shown(config.options)} ({one_line(error, 200)})"
        ) from error
    return optimizer


def _function(name: str) -> Callable[..., optax.GradientTransformation]:
    known = [
        name
        for name, function in inspect.getmembers(optax, callable)
        if name.islower() and not name.startswith(("_", "scale"))
        if "learning_rate" in inspect.signature(function).parameters
    ]
    if name not in known:
        raise InputError(
            f"config.optimizer.name={shown(name)} is unknown: use one of optax's "
            f"{', '.join(known)}{did_you_mean(name, known)}"
        )
    return getattr(optax, name)


def _options(config: Optimizer, function: Callable) -> dict[str, Any]:
    """Read ``name=value,name=value``, held against optax's signature."""
    own = {*OWN_FIELDS, *(("momentum", "nesterov") if config.name == "sgd" else ())}
    known = [name for name in inspect.signature(function).parameters if name not in own]
    found = {}
    for option in filter(None, config.options.split(",")):
        name, equals, text = (part.strip() for part in option.partition("="))
        if name not in known or not equals or name in found:
            raise InputError(
                f"config.optimizer.options has {shown(option)}: write name=value, each "
                f"name once; optax.{config.name} has {', '.join(known)}"
            )
        found[name] = python_value(text)
    return found


def _kind(name: str, default: Any) -> Any:
    """Say what an option may hold, of which optax itself checks next to nothing."""
    if isinstance(default, bool):
        return bool
    if name in DECAY_RATES and (default is None or default < 1):
        return Momentum
    if isinstance(default, int | float):
        return Annotated[float, Range(least=0, most=FLOAT32)]
    return Any


def check_excluded(names: Sequence[str], params: Any) -> None:
    """Raise InputError for the leaf name of no parameter."""
    known = sorted({name.rpartition(".")[2] for name in flatten(params)})
    for name in names:
        if name not in known:
            raise InputError(
                f"config.optimizer.decay_exclude has {shown(name)}, which is the name "
                f"of no parameter: choose from {', '.join(known)}, as in "
                f"{tuple(known[:2])!r}"
            )
