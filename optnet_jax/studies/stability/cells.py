"""The cells of the trial: one structure at one depth, all its seeds and rates."""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax import data
from optnet_jax.configuration import Config
from optnet_jax.studies.stability import trial as trials
from optnet_jax.studies.stability.config import StabilityConfig


@dataclasses.dataclass(frozen=True)
class Cell:
    """One structure at one depth.

    Attributes:
      structure: a key of :data:`~optnet_jax.studies.stability.trial.STRUCTURES`.
      depth: weight layers.
      normalize: with batch normalisation.
    """

    structure: str
    depth: int
    normalize: bool

    @property
    def name(self) -> str:
        """With or without normalisation, the structure and its depth."""
        kind = "normalized" if self.normalize else "plain"
        return f"{kind} {self.structure} depth{self.depth}"

    @property
    def work(self) -> float:
        """Weight layers."""
        return self.depth


def plan(config: Config | StabilityConfig) -> list[Cell]:
    """List the cells, shallow ones first.

    Raises:
      InputError: a depth that is no 2 n + 2.
    """
    config = StabilityConfig.of(config)
    return [
        Cell(structure, depth, normalize)
        for depth in config.trial.depths
        for normalize in config.trial.normalize
        for structure in trials.STRUCTURES
    ]


def load_batches(config: StabilityConfig) -> tuple[jax.Array, jax.Array]:
    """Return the batch of every step: images [steps, B, pixels], labels [steps, B]."""
    dataset = data.load(config.data, seed=config.seed)
    batches = itertools.islice(dataset.train_batches(), config.trial.steps)
    images, labels = zip(*((b["image"], b["label"]) for b in batches), strict=True)
    flat = np.stack([np.asarray(x).reshape(len(x), -1) for x in images])
    return jnp.asarray(flat), jnp.asarray(np.stack(labels))


def train_cell(
    cell: Cell, config: StabilityConfig, batches: tuple[jax.Array, jax.Array]
) -> dict[str, Any]:
    """Train a cell.

    Returns:
      The final loss (the mean of the last tenth of the steps), whether it failed, and
      the gradient's norm at the first step and at its largest, each [rates][seeds].
    """
    start = time.perf_counter()
    settings = config.trial
    trial = trials.Trial(
        trials.STRUCTURES[cell.structure],
        cell.depth,
        settings.width,
        cell.normalize,
        settings.steps,
    )
    outcome = trials.run(
        trial,
        *batches,
        jnp.asarray(settings.seeds),
        jnp.asarray(settings.learning_rates),
    )
    loss, norm = map(np.asarray, outcome)
    final = loss[..., -max(1, settings.steps // 10) :].mean(-1)
    return {
        **dataclasses.asdict(cell),
        "final_loss": final.tolist(),
        "failed": (~(final <= settings.failed_above)).tolist(),
        "diverged": (~np.isfinite(loss).all(-1)).tolist(),
        "first_gradient_norm": norm[..., 0].tolist(),
        "largest_gradient_norm": norm.max(-1).tolist(),
        "wall_seconds": round(time.perf_counter() - start, 2),
    }
