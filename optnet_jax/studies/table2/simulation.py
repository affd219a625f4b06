"""The simulation of §5.3: one structure of one depth, trained on random pairs by (15).

:func:`simulate` draws the pairs, draws the weights, trains and measures in one traced
function, so that one cell of Table 2 is one jitted program.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from optnet_jax.studies.table2.gradient import gradient


@dataclasses.dataclass(frozen=True)
class Training:
    """How a cell is trained: what Table 2 depends on and the paper does not say.

    Attributes:
      samples: the number of pairs (x_0, f).
      dim: the dimension of x_0 and f.
      batch_size: samples per step, a divisor of ``samples``.
      optimizer: the update rule.
      checkpoints: the steps after which the whole set is measured, increasing.
    """

    samples: int
    dim: int
    batch_size: int
    optimizer: optax.GradientTransformation
    checkpoints: tuple[int, ...]


class Record(NamedTuple):
    """What one run leaves behind; all means are over samples and dimensions.

    Attributes:
      mse: mean (Net(x_0) - f)² over the whole set at each checkpoint. [checkpoints]
      output_power: mean Net(x_0)². [checkpoints]
      output_spread: the part of it that depends on the input: the variance of Net(x_0)
        over the samples, mean over the dimensions. [checkpoints]
      target_power: M = mean f², the error of the output 0. []
      constant_mse: the error of the best constant vector, the samples' mean of f. []
    """

    mse: jax.Array
    output_power: jax.Array
    output_spread: jax.Array
    target_power: jax.Array
    constant_mse: jax.Array


def draw(seed: jax.Array | int, samples: int, dim: int) -> tuple[jax.Array, jax.Array]:
    """Draw the inputs x_0 and the targets f from N(0, I), independent of each other.

    Args:
      seed: of the draw.
      samples: the number of pairs.
      dim: their dimension.

    Returns:
      x_0 and f, [samples, dim] each.
    """
    key, _ = jax.random.split(jax.random.key(seed))
    inputs, targets = jax.random.normal(key, (2, samples, dim))
    return inputs, targets


def initial_parameters(network: nn.Module, seed: jax.Array | int, dim: int) -> Any:
    """Draw the weights: one seed gives structures of one shape the same weights.

    Args:
      network: the structure, a linen module over [..., dim].
      seed: the same as for :func:`draw`; the two draws are independent.
      dim: the dimension of its input.

    Returns:
      The ``params`` of the network.
    """
    _, key = jax.random.split(jax.random.key(seed))
    return network.init(key, jnp.zeros(dim))["params"]


def simulate(network: nn.Module, training: Training, seed: jax.Array | int) -> Record:
    """Train a structure on random pairs and measure it: one seed of one cell.

    Minimises mean (Net(x_0) - f)² over samples and dimensions. The samples are
    independent draws, so the batches are consecutive slices, each sample once an epoch.

    Args:
      network: the structure, [..., dim] to [..., dim].
      training: how it is trained and when it is measured.
      seed: of the pairs and of the weights.

    Returns:
      The measurements.
    """
    inputs, targets = draw(seed, training.samples, training.dim)
    params = initial_parameters(network, seed, training.dim)
    batches = training.samples // training.batch_size

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return network.apply({"params": params}, x)  # pyright: ignore

    def loss(params: Any, x: jax.Array, f: jax.Array) -> jax.Array:
        return jnp.mean((apply(params, x) - f) ** 2)

    def batch(array: jax.Array, step: jax.Array) -> jax.Array:
        start = (step % batches) * training.batch_size
        return jax.lax.dynamic_slice_in_dim(array, start, training.batch_size)

    def train_step(step: jax.Array, state: tuple) -> tuple:
        params, memory = state
        grads = gradient(loss, params, batch(inputs, step), batch(targets, step))
        updates, memory = training.optimizer.update(grads, memory, params)
        return optax.apply_updates(params, updates), memory

    def to_checkpoint(state: tuple, span: tuple) -> tuple:
        start, stop = span
        # The bounds are traced, so the step is compiled once for all checkpoints.
        state = jax.lax.fori_loop(start, stop, train_step, state)
        outputs = apply(state[0], inputs)
        return state, (
            jnp.mean((outputs - targets) ** 2),
            jnp.mean(outputs**2),
            jnp.mean(jnp.var(outputs, axis=0)),
        )

    stops = jnp.asarray(training.checkpoints)
    starts = jnp.concatenate([jnp.zeros_like(stops[:1]), stops[:-1]])
    state = params, training.optimizer.init(params)
    _, (mse, power, spread) = jax.lax.scan(to_checkpoint, state, (starts, stops))
    constant_mse = jnp.mean(jnp.var(targets, axis=0))
    return Record(mse, power, spread, jnp.mean(targets**2), constant_mse)
