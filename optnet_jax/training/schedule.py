"""Durations in epochs and fractions of a run, and the learning rate over its steps."""

import jax.numpy as jnp
import optax

from optnet_jax.configuration.train import Schedule
from optnet_jax.errors import InputError
from optnet_jax.kinds import INT32
from optnet_jax.runs.progress import say


def steps_in_run(config: Schedule, steps_per_epoch: int) -> int:
    """Return the number of optimiser steps of a run, at least 1.

    Raises:
        InputError: if it is more than the step of a run's state, int32, counts to.

    >>> steps_in_run(Schedule(epochs=300), 781)
    234300
    """
    return config.steps or max(1, _steps(config, "epochs", steps_per_epoch))


def _steps(config: Schedule, field: str, steps_per_epoch: int) -> int:
    epochs = getattr(config, field)
    steps = round(epochs * steps_per_epoch)
    if steps > INT32:
        raise InputError(
            f"config.schedule.{field}={epochs:g} are {steps:,} steps: a run has at "
            f"most {INT32:,}, so at most --config.schedule.{field}="
            f"{INT32 // steps_per_epoch}"
        )
    return steps


def steps_in_interval(epochs: float, steps_per_epoch: int) -> int:
    """Return the steps between two events that are some epochs apart, at least 1."""
    return max(1, round(epochs * steps_per_epoch))


def learning_rate_schedule(
    config: Schedule, learning_rate: float, steps_per_epoch: int
) -> optax.Schedule:
    """Make the piecewise constant rate of §7.1, with an optional linear warm-up.

    It is multiplied by ``drop_factor`` at each fraction in ``drop_at``: the first step
    after 50 % of the run is the first one with the lower rate. Or it falls smoothly,
    from the end of the warm-up to 0 at that of the run. In a warm-up of w steps the
    rate of step k is scaled by (k + 1) / w; one that is longer than the run is said.

    Returns:
        A function of the step (counted from 0) that gives the rate of that step.

    >>> rate = learning_rate_schedule(Schedule(steps=8, drop_at=(0.5, 0.75)), 0.1, 4)
    >>> [round(float(rate(step)), 4) for step in range(8)]
    [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    """
    total = steps_in_run(config, steps_per_epoch)
    rising = _steps(config, "warmup_epochs", steps_per_epoch)
    # A drop that rounding puts at the very start would leave no step the full rate.
    drops = [max(1, round(fraction * total)) for fraction in config.drop_at]
    boundaries = jnp.array(drops, jnp.int32)
    length = max(1, total - rising)
    forms = {
        "steps": lambda step: (
            learning_rate * config.drop_factor ** jnp.sum(step >= boundaries)
        ),
        "cosine": optax.cosine_decay_schedule(learning_rate, length),
        "linear": optax.linear_schedule(learning_rate, 0.0, length),
    }
    begin = 0 if config.decay == "steps" else rising

    def schedule(step):
        warmup = jnp.minimum(1.0, (step + 1) / max(1, rising))
        return forms[config.decay](jnp.maximum(step - begin, 0)) * warmup

    if rising > total:
        say(
            f"the warm-up is longer than the run, whose learning rate ends at "
            f"{float(schedule(total - 1)):.3g}"
        )
    return schedule
