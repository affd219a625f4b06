"""The cells of Table 2: which there are, and the training of one."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import time
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn

from optnet_jax.configuration import Config
from optnet_jax.errors import InputError
from optnet_jax.objectives import activation_pair
from optnet_jax.recurrences.base import number_of_paths
from optnet_jax.structures import FullyConnected, Propagation
from optnet_jax.studies.table2.config import Table2Config
from optnet_jax.studies.table2.contenders import Contender, contender
from optnet_jax.studies.table2.simulation import Training, simulate

INITIALIZERS = {
    "xavier_normal": nn.initializers.xavier_normal,
    "xavier_uniform": nn.initializers.xavier_uniform,
    "he_normal": nn.initializers.he_normal,
    "lecun_normal": nn.initializers.lecun_normal,
}
"""``config.network.init`` → how W is drawn."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One structure at one depth.

    Attributes:
      structure: a key of :func:`~optnet_jax.studies.table2.contenders.contenders`.
      depth: K.
      checkpoints: the steps after which it is measured; training ends at the last.
    """

    structure: str
    depth: int
    checkpoints: tuple[int, ...]

    @property
    def contender(self) -> Contender:
        """What is trained."""
        return contender(self.structure)

    @property
    def name(self) -> str:
        """The structure and its depth."""
        return f"{self.structure}_depth{self.depth}"

    @property
    def work(self) -> int:
        """What it costs, up to a factor: evaluations of T."""
        paths = number_of_paths(self.contender.make(0.0))
        return paths * self.depth * self.checkpoints[-1]


def plan(config: Config | Table2Config) -> list[Cell]:
    """List the cells of the table and of its explanation, each once.

    Args:
      config: as ``configs/table2.py`` gives it.

    Returns:
      The cells, shallow ones first.

    Raises:
      InputError: a value that cannot be run, before anything slow.
    """
    config = Table2Config.of(config)
    pairs = {(s, k) for s in config.structures for k in config.depths}
    pairs |= {(s, config.timing.depth) for s in config.structures}
    pairs |= {(s, k) for s in config.readout.structures for k in config.readout.depths}
    order = [*config.structures, *config.readout.structures]

    def checkpoints(depth: int) -> tuple[int, ...]:
        times = config.timing.checkpoints if depth == config.timing.depth else ()
        return tuple(sorted({config.steps, *times}))

    cells = [Cell(s, k, checkpoints(k)) for s, k in pairs]
    return sorted(cells, key=lambda c: (c.depth, order.index(c.structure)))


def make_network(cell: Cell, config: Table2Config) -> Propagation:
    """Build the structure of a cell.

    Args:
      cell: the cell.
      config: ``network`` and ``heavy_ball_beta`` are read.

    Returns:
      The untied structure: one W for each layer, as §5.3 trains it.
    """
    activation, _ = activation_pair(config.network.activation)
    transform = FullyConnected(
        activation=activation,
        use_bias=config.network.use_bias,
        kernel_init=INITIALIZERS[config.network.init](),
    )
    return Propagation(
        recurrence=cell.contender.make(config.heavy_ball_beta),
        transform=transform,
        depth=cell.depth,
        separate_paths=cell.contender.separate_paths,
    )


def learning_rate(cell: Cell, config: Table2Config) -> float:
    """Return the rate that a cell is trained at."""
    factor = config.optimizer.slow_factor if cell.contender.slow else 1.0
    return config.optimizer.learning_rate * factor


def make_training(cell: Cell, config: Table2Config) -> Training:
    """Return how a cell is trained: plain SGD, with momentum where it is not 0."""
    momentum = config.optimizer.momentum or None
    return Training(
        samples=config.task.samples,
        dim=config.task.dim,
        batch_size=config.batch_size,
        optimizer=optax.sgd(learning_rate(cell, config), momentum=momentum),
        checkpoints=cell.checkpoints,
    )


def train_cell(cell: Cell, config: Table2Config) -> dict[str, Any]:
    """Train one cell: all its seeds, in one jitted program.

    The seeds run one after another inside it: vectorised over the seeds it was not
    faster on two cores, and a full batch of one seed fills an accelerator.

    Args:
      cell: the cell.
      config: the study's config.

    Returns:
      JSON-able: the cell, its measurements for each seed [seeds] or
      [seeds][checkpoints], and what it took.

    Raises:
      InputError: the training diverged.
    """
    network, training = make_network(cell, config), make_training(cell, config)

    @jax.jit
    def program(seeds: jax.Array) -> Any:
        return jax.lax.map(functools.partial(simulate, network, training), seeds)

    seeds = np.asarray(config.seeds)
    start = time.perf_counter()
    with jax.default_matmul_precision(config.matmul_precision):
        compiled = program.lower(seeds).compile()
    compiled_at = time.perf_counter()
    record = jax.device_get(compiled(seeds))
    end = time.perf_counter()
    if not all(np.isfinite(values).all() for values in record):
        raise InputError(
            f"{cell.contender.label} with {cell.depth} layers diverged: lower "
            f"config.optimizer.learning_rate={config.optimizer.learning_rate}"
        )
    return {
        "structure": cell.structure,
        "label": cell.contender.label,
        "depth": cell.depth,
        "learning_rate": learning_rate(cell, config),
        "seeds": list(config.seeds),
        "checkpoints": list(cell.checkpoints),
        **{name: values.tolist() for name, values in record._asdict().items()},
        "compile_seconds": round(compiled_at - start, 2),
        "wall_seconds": round(end - start, 2),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
