"""What a training run carries from one step to the next."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct


class TrainState(struct.PyTreeNode):
    """The complete state of a run: with it and the config, the rest is determined.

    Attributes:
        step: int32 [], the number of optimiser steps taken.
        params: The linen collection ``params``.
        batch_stats: The linen collection ``batch_stats`` (BatchNorm's running mean and
            variance); empty for a network without BatchNorm.
        opt_state: The optimiser's state (momentum).
        average: Exponential moving average of ``{"params", "batch_stats"}``, which
            evaluation then uses; ``None`` where averaging is off.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    average: Any = None

    @property
    def eval_variables(self) -> dict[str, Any]:
        """The collections to evaluate with: the average where there is one."""
        if self.average is not None:
            return self.average
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    image_shape: Sequence[int],
    *,
    average: bool = False,
) -> TrainState:
    """Draw the parameters and start the optimiser."""
    # lazy_init draws the parameters without running (or compiling) the forward pass:
    # jit(module.init) of a 40-layer DenseNet compiles for minutes.
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = module.lazy_init(key, image, train=False)
    params = variables["params"]
    batch_stats = variables.get("batch_stats", {})
    copies = {"params": params, "batch_stats": batch_stats} if average else None
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        # The state is donated to the step: two fields must not share one buffer.
        average=jax.tree.map(jnp.copy, copies),
    )
