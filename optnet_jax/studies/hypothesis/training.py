"""Training of a structure by (15), many seeds and learning rates in one program."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optnet_jax.recurrences import Recurrence
from optnet_jax.studies.hypothesis.task import Task

WORST = 1e3
"""What an error counts as at most; a network whose weights are not finite has it."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """How every network is trained, whatever its structure: Adam, cosine decay to 0.

    Attributes:
      steps: the number of updates.
      batch_size: samples of each.
    """

    steps: int
    batch_size: int


class Split(NamedTuple):
    """Inputs and targets, [..., samples, n] each."""

    inputs: jax.Array
    targets: jax.Array


class Outcome(NamedTuple):
    """What training left, for each member.

    Attributes:
      error: the mean squared error over the mean power of the targets about their mean
        (about 0 where they are all the same): 1 for the best constant. [members]
      spread: the power of the output about its mean, over the same. [members]
      finite: whether the weights are. [members]
    """

    error: jax.Array
    spread: jax.Array
    finite: jax.Array


def scale(task: Task, targets: jax.Array) -> jax.Array:
    """Return the power that errors are relative to."""
    centre = 0.0 if task.constant else targets.mean(0, keepdims=True)
    return jnp.mean((targets - centre) ** 2)


def initial_weights(
    key: jax.Array, depth: int, dimension: int, tied: bool
) -> jax.Array:
    """Draw W, or W_0..W_{depth-1}, by Xavier's rule: N(0, 1/n)."""
    shape = (dimension, dimension) if tied else (depth, dimension, dimension)
    return jax.random.normal(key, shape) / np.sqrt(dimension)


def make_program(
    task: Task, recurrence: Recurrence, depth: int, tied: bool, budget: Budget
):
    """Return the jitted training of one structure.

    Args:
      task: what is learned.
      recurrence: the method.
      depth: K.
      tied: one W for all layers.
      budget: of the training.

    Returns:
      (training split, split to measure on, seeds, learning rates), each with a leading
      axis of members, -> Outcome. Members of one seed start from the same weights and
      see the same batches.
    """

    def loss(w: jax.Array, batch: Split) -> jax.Array:
        outputs = task.propagate(recurrence, w, batch.inputs, depth)
        return jnp.mean((outputs - batch.targets) ** 2)

    def train(
        training: Split, held_out: Split, seed: jax.Array, rate: jax.Array
    ) -> Outcome:
        dimension = training.inputs.shape[-1]
        optimizer = optax.adam(optax.cosine_decay_schedule(1.0, budget.steps))
        w = initial_weights(jax.random.key(seed), depth, dimension, tied)
        batches = training.inputs.shape[0] // budget.batch_size

        def update(state: tuple, step: jax.Array) -> tuple:
            w, memory = state
            start = step % batches * budget.batch_size
            batch = jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(x, start, budget.batch_size),
                training,
            )
            change, memory = optimizer.update(jax.grad(loss)(w, batch), memory)
            return (optax.tree.add_scale(w, rate, change), memory), None

        state = w, optimizer.init(w)
        (w, _), _ = jax.lax.scan(update, state, jnp.arange(budget.steps))
        return measure(task, recurrence, depth, w, held_out)

    return jax.jit(jax.vmap(train))


def measure(
    task: Task, recurrence: Recurrence, depth: int, w: jax.Array, split: Split
) -> Outcome:
    """Measure one network on one split."""
    outputs = task.propagate(recurrence, w, split.inputs, depth)
    power = scale(task, split.targets)
    error = jnp.mean((outputs - split.targets) ** 2) / power
    spread = jnp.mean((outputs - outputs.mean(0, keepdims=True)) ** 2) / power
    return Outcome(capped(error), capped(spread), jnp.isfinite(w).all())


def capped(value: jax.Array) -> jax.Array:
    """Return the value, WORST where it is more or no number."""
    return jnp.where(value < WORST, value, WORST)
