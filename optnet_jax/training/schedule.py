"""Durations in epochs and fractions of a run, and the learning rate over its steps."""

from collections.abc import Sequence

import jax.numpy as jnp
import optax

from optnet_jax.errors import InputError
from optnet_jax.kinds import INT32


def steps_in_run(epochs: float, steps_per_epoch: int, steps: int = 0) -> int:
    """Return the number of optimiser steps of a run.

    Args:
        epochs: Length in epochs (``config.schedule.epochs``).
        steps_per_epoch: Steps of one epoch, from the dataset.
        steps: Length in steps, which wins over ``epochs`` where it is above 0
            (``config.schedule.steps``).

    Returns:
        The length in steps, at least 1.

    Raises:
        InputError: if neither length is positive, or it is longer than a run's step
            counts.

    >>> steps_in_run(300.0, 781)
    234300
    """
    if not steps and epochs <= 0:
        raise InputError(
            f"the run has no length (epochs={epochs}, steps={steps}): set "
            "--config.schedule.epochs=300.0 or --config.schedule.steps=1000"
        )
    return steps or max(1, steps_of("schedule.epochs", epochs, steps_per_epoch))


def steps_of(field: str, epochs: float, steps_per_epoch: int) -> int:
    """Return the length in steps of what the config gives in epochs, rounded.

    Raises:
        InputError: if it is more than the step of a run's state, int32, counts to.
    """
    steps = round(epochs * steps_per_epoch)
    if steps > INT32:
        raise InputError(
            f"config.{field}={epochs:g} are {steps:,} steps: a run has at most "
            f"{INT32:,}, so at most --config.{field}={INT32 // steps_per_epoch}"
        )
    return steps


def steps_in_interval(epochs: float, steps_per_epoch: int) -> int:
    """Return the steps between two events that are some epochs apart, at least 1."""
    return max(1, round(epochs * steps_per_epoch))


def learning_rate_schedule(
    learning_rate: float,
    total_steps: int,
    *,
    decay: str = "steps",
    drop_at: Sequence[float] = (0.5, 0.75),
    drop_factor: float = 0.1,
    warmup_steps: int = 0,
) -> optax.Schedule:
    """Make the piecewise constant rate of §7.1, with an optional linear warm-up.

    It is multiplied by ``drop_factor`` at each fraction in ``drop_at``: the first step
    after 50 % of the run is the first one with the lower rate. Or it falls smoothly.

    Args:
        learning_rate: The rate at the start (0.1 in the paper).
        total_steps: Length of the run in steps.
        decay: "steps"; or "cosine" or "linear", in which form the rate falls from the
            end of the warm-up to 0 at that of the run.
        drop_at: Fractions of the run, each within (0, 1).
        drop_factor: What a drop multiplies the rate by.
        warmup_steps: The rate of step k is scaled by (k + 1) / warmup_steps until it
            reaches ``learning_rate``; 0 switches the warm-up off.

    Returns:
        A function of the step (counted from 0) that gives the rate of that step.

    >>> rate = learning_rate_schedule(0.1, 8, drop_at=(0.5, 0.75))
    >>> [round(float(rate(step)), 4) for step in range(8)]
    [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    """
    # A drop that rounding puts at the very start would leave no step the full rate.
    boundaries = jnp.array([max(1, round(f * total_steps)) for f in drop_at], jnp.int32)
    length = max(1, total_steps - warmup_steps)
    forms = {
        "steps": lambda step: (
            learning_rate * drop_factor ** jnp.sum(step >= boundaries)
        ),
        "cosine": optax.cosine_decay_schedule(learning_rate, length),
        "linear": optax.linear_schedule(learning_rate, 0.0, length),
    }
    begin = 0 if decay == "steps" else warmup_steps

    def schedule(step):
        warmup = jnp.minimum(1.0, (step + 1) / max(1, warmup_steps))
        return forms[decay](jnp.maximum(step - begin, 0)) * warmup

    return schedule
