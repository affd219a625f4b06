"""SGD with Nesterov momentum and L2 in the gradient: the optimiser of §7.1."""

from typing import Any

import jax
import optax

from optnet_jax.configuration import Config
from optnet_jax.errors import InputError


def create_optimizer(
    config: Config, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Build the optimiser that a config names.

    With the gradient g_k of the loss and the L2 coefficient w,

        d_k = g_k + w p_k,   v_{k+1} = m v_k + d_k,
        p_{k+1} = p_k - lr_k (d_k + m v_{k+1})   (Nesterov)

    so that the L2 term passes through the momentum, as in the authors' Torch code.

    Args:
        config: ``config.optimizer``: ``momentum``, ``nesterov``, ``weight_decay`` and
            ``decay_exclude``, the leaf names (such as ``("bias", "scale", "alpha")``)
            of parameters that get no L2 term; empty means every parameter has it.
        schedule: Learning rate as a function of the step.

    Returns:
        The optimiser.

    Raises:
        InputError: for a momentum outside [0, 1) or a negative L2 coefficient.
    """
    if not 0 <= config.momentum < 1:
        raise InputError(
            f"config.optimizer.momentum={config.momentum} must be in [0, 1)"
        )
    if config.weight_decay < 0:
        raise InputError(
            f"config.optimizer.weight_decay={config.weight_decay} must not be negative"
        )
    excluded = frozenset(config.decay_exclude)

    def decayed(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: path[-1].key not in excluded, params
        )

    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask=decayed),
        optax.sgd(schedule, momentum=config.momentum, nesterov=config.nesterov),
    )
