"""SGD with Nesterov momentum and L2 in the gradient: the optimiser of §7.1."""

from collections.abc import Sequence
from typing import Any

import jax
import optax

from optnet_jax.configuration.train import Optimizer
from optnet_jax.errors import InputError, shown


def create_optimizer(
    config: Optimizer, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Build the optimiser that a config names.

    With the gradient g_k of the loss and the L2 coefficient w,

        d_k = g_k + w p_k,   v_{k+1} = m v_k + d_k,
        p_{k+1} = p_k - lr_k (d_k + m v_{k+1})   (Nesterov)

    so that the L2 term passes through the momentum, as in the authors' Torch code.

    Args:
        config: ``config.optimizer``; every parameter has an L2 term but those whose
            leaf name is in ``decay_exclude``, such as ``("bias", "scale", "alpha")``.
        schedule: Learning rate as a function of the step.

    Returns:
        The optimiser.
    """
    excluded = frozenset(config.decay_exclude)

    def decayed(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: path[-1].key not in excluded, params
        )

    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask=decayed),
        optax.sgd(schedule, momentum=config.momentum, nesterov=config.nesterov),
    )


def check_excluded(names: Sequence[str], params: Any) -> None:
    """Refuse to exclude a parameter from the L2 term that there is not.

    Args:
        names: ``config.optimizer.decay_exclude``.
        params: The parameters, or their shapes.

    Raises:
        InputError: naming the leaf names that there are.
    """
    paths, _ = zip(*jax.tree_util.tree_leaves_with_path(params), strict=True)
    known = sorted({path[-1].key for path in paths})
    for name in names:
        if name not in known:
            raise InputError(
                f"config.optimizer.decay_exclude has {shown(name)}, which is the name "
                f"of no parameter: choose from {', '.join(known)}, as in "
                f"{tuple(known[:2])!r}"
            )
