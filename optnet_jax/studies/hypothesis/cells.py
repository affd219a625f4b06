"""The cells of the study: one structure, depth and tying, its rate tuned first."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.configuration import Config
from optnet_jax.recurrences import methods
from optnet_jax.studies.hypothesis.config import HypothesisConfig
from optnet_jax.studies.hypothesis.task import Problem, Task, draw
from optnet_jax.studies.hypothesis.training import (
    Budget,
    Outcome,
    Split,
    capped,
    make_program,
    scale,
)

PARTS = ("linear_term", "constant")
TRAINING, VALIDATION, TEST = range(3)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One structure at one depth.

    Attributes:
      part: how the input enters F, one of :data:`PARTS`, see
        :class:`~optnet_jax.studies.hypothesis.task.Task`.
      label: of the method, see :data:`~optnet_jax.recurrences.methods.METHODS`.
      depth: K.
      tying: ``"untied"`` (15) or ``"tied"`` (§5.1).
    """

    part: str
    label: str
    depth: int
    tying: str

    @property
    def method(self) -> methods.Method:
        """The method."""
        return methods.find(self.label)

    @property
    def name(self) -> str:
        """The part, the tying, the method and its depth."""
        return f"{self.part} {self.tying} {self.label} depth{self.depth}"

    @property
    def work(self) -> float:
        """Layers that are run."""
        return self.depth * (2 if self.label.startswith("ADMM") else 1)


def plan(config: Config | HypothesisConfig) -> list[Cell]:
    """List the cells, shallow ones first.

    Args:
      config: as ``configs/hypothesis.py`` gives it.

    Raises:
      InputError: a value that cannot be run, before anything slow.
    """
    study = HypothesisConfig.of(config).hypothesis
    cells = [
        Cell("linear_term", label, depth, tying)
        for tying in study.tyings
        for depth in sorted(study.depths)
        for label in study.methods
    ]
    return cells + [
        Cell("constant", label, depth, "untied")
        for depth in sorted(study.constant.depths)
        for label in study.methods
    ]


def make_task(part: str, config: HypothesisConfig) -> Task:
    """Return the task of a part of the study."""
    study = config.hypothesis
    constant = part == "constant"
    return Task(
        study.constant.activation if constant else study.activation,
        study.condition,
        study.dimension,
        constant,
    )


def draw_all(config: HypothesisConfig, part: str) -> dict[int, Problem]:
    """Draw the problem of every seed, those for tuning included."""
    study = config.hypothesis
    samples = (study.samples.train, study.samples.validation, study.samples.test)
    seeds = (*study.seeds, *study.tuning_seeds)
    with jax.enable_x64(True):
        return {seed: draw(make_task(part, config), samples, seed) for seed in seeds}


def split(problems: Sequence[Problem], which: int) -> Split:
    """Return one split of several problems, float32, with a leading axis of them."""
    return Split(
        *(
            jnp.asarray(np.stack([arrays[which] for arrays in kind]), jnp.float32)
            for kind in zip(*((p.inputs, p.targets) for p in problems), strict=True)
        )
    )


def train_cell(
    cell: Cell, config: HypothesisConfig, problems: dict[int, Problem]
) -> dict[str, Any]:
    """Tune the learning rate of a cell on the tuning seeds, then train its seeds.

    The tuning seeds have problems of their own, and are measured on their validation
    split; nothing that is reported has been seen by the choice.

    Args:
      cell: the cell.
      config: the study's config.
      problems: seed -> problem.

    Returns:
      JSON-able: the cell, the rate and what chose it, and the outcome by seed.
    """
    start = time.perf_counter()
    study = config.hypothesis
    program = make_program(
        make_task(cell.part, config),
        cell.method.recurrence(1 / study.condition),
        cell.depth,
        cell.tying == "tied",
        Budget(study.steps, study.batch_size),
    )
    # Leading axis: rates, then seeds.
    rates = np.repeat(
        np.asarray(study.learning_rates, np.float32), len(study.tuning_seeds)
    )
    seeds = np.tile(study.tuning_seeds, len(study.learning_rates))
    tuning = _run(program, problems, seeds, rates, VALIDATION)
    shape = len(study.learning_rates), len(study.tuning_seeds)
    # The mean of the logarithms: one seed on which a rate diverges counts against it.
    scores = np.log(tuning.error).reshape(shape).mean(1)
    chosen = int(scores.argmin())
    rate = study.learning_rates[chosen]
    final = _run(program, problems, np.array(study.seeds), rate, TEST)
    return {
        **dataclasses.asdict(cell),
        "learning_rate": rate,
        "rate_at_the_edge": chosen in (0, len(scores) - 1),
        "validation_error_by_rate": np.exp(scores).tolist(),
        "seeds": list(study.seeds),
        "error": final.error.tolist(),
        "spread": final.spread.tolist(),
        "diverged": int((~final.finite).sum()),
        "wall_seconds": round(time.perf_counter() - start, 2),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _run(
    program: Any, problems: dict[int, Problem], seeds: Any, rates: Any, which: int
) -> Outcome:
    chosen = [problems[int(seed)] for seed in seeds]
    outcome = program(
        split(chosen, TRAINING),
        split(chosen, which),
        jnp.asarray(seeds),
        jnp.broadcast_to(jnp.float32(rates), (len(seeds),)),
    )
    return jax.device_get(outcome)


def run_untrained(
    label: str, config: HypothesisConfig, problems: dict[int, Problem]
) -> dict[str, Any]:
    """Run the method itself, with the true W, on the test inputs.

    Args:
      label: of the method.
      config: the study's config.
      problems: seed -> problem.

    Returns:
      JSON-able: the relative error after 0..``untrained_depth`` steps, by seed.
    """
    study = config.hypothesis
    task = make_task("linear_term", config)
    recurrence = methods.find(label).recurrence(task.mu)

    @jax.vmap
    def errors(w: jax.Array, test: Split) -> jax.Array:
        xs = task.propagate(
            recurrence, w, test.inputs, study.untrained_depth, trajectory=True
        )
        squares = jnp.mean((xs - test.targets[None]) ** 2, axis=(1, 2))
        return capped(squares / scale(task, test.targets))

    chosen = [problems[seed] for seed in study.seeds]
    w = jnp.asarray(np.stack([p.w for p in chosen]), jnp.float32)
    found = np.asarray(errors(w, split(chosen, TEST)))
    return {"label": label, "error": found.tolist()}
