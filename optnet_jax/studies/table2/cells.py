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
from optnet_jax.studies.table2.contenders import Contender, contender
from optnet_jax.studies.table2.simulation import Training, simulate

INITIALIZERS = {
    "xavier_normal": nn.initializers.xavier_normal,
    "xavier_uniform": nn.initializers.xavier_uniform,
    "he_normal": nn.initializers.he_normal,
    "lecun_normal": nn.initializers.lecun_normal,
}
"""``config.network.init`` → how W is drawn."""

PRECISIONS = ("default", "high", "highest")
"""``config.matmul_precision``: of float32 products, where a device has a choice."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One structure at one depth.

    Attributes:
      structure: a key of :data:`~optnet_jax.studies.table2.contenders.CONTENDERS`.
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
        """Name of the cell's file."""
        return f"{self.structure}_depth{self.depth}"

    @property
    def work(self) -> int:
        """What it costs, up to a factor: evaluations of T."""
        paths = number_of_paths(self.contender.make(0.0))
        return paths * self.depth * self.checkpoints[-1]


def plan(config: Config) -> list[Cell]:
    """List the cells of the table and of its explanation, each once.

    Args:
      config: as ``configs/table2.py`` gives it.

    Returns:
      The cells, shallow ones first.

    Raises:
      InputError: a value that cannot be run, before anything slow.
    """
    _check(config)
    pairs = {(s, k) for s in config.structures for k in config.depths}
    pairs |= {(s, config.timing.depth) for s in config.structures}
    pairs |= {(s, k) for s in config.readout.structures for k in config.readout.depths}
    order = [*config.structures, *config.readout.structures]

    def checkpoints(depth: int) -> tuple[int, ...]:
        times = config.timing.checkpoints if depth == config.timing.depth else ()
        return tuple(sorted({config.steps, *times}))

    cells = [Cell(s, k, checkpoints(k)) for s, k in pairs]
    return sorted(cells, key=lambda c: (c.depth, order.index(c.structure)))


def make_network(cell: Cell, config: Config) -> Propagation:
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


def learning_rate(cell: Cell, config: Config) -> float:
    """Return the rate that a cell is trained at."""
    factor = config.optimizer.slow_factor if cell.contender.slow else 1.0
    return config.optimizer.learning_rate * factor


def make_training(cell: Cell, config: Config) -> Training:
    """Return how a cell is trained: plain SGD, with momentum where it is not 0."""
    momentum = config.optimizer.momentum or None
    return Training(
        samples=config.task.samples,
        dim=config.task.dim,
        batch_size=config.batch_size,
        optimizer=optax.sgd(learning_rate(cell, config), momentum=momentum),
        checkpoints=cell.checkpoints,
    )


def train_cell(cell: Cell, config: Config) -> dict[str, Any]:
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


def _check(config: Config) -> None:
    _check_names(config)
    _check_counts(config)
    if config.task.samples % config.batch_size:
        raise InputError(
            f"config.batch_size={config.batch_size} must divide "
            f"config.task.samples={config.task.samples}: every sample counts the same"
        )
    optimizer = config.optimizer
    if not (optimizer.learning_rate > 0 and optimizer.slow_factor > 0):
        raise InputError(
            "config.optimizer.learning_rate and slow_factor must be above 0, not "
            f"{optimizer.learning_rate} and {optimizer.slow_factor}"
        )
    if not 0 <= optimizer.momentum < 1:
        raise InputError(
            f"config.optimizer.momentum={optimizer.momentum} must be in [0, 1)"
        )


def _check_names(config: Config) -> None:
    structures = (*config.structures, *config.readout.structures)
    for name in structures:
        contender(name)
    activation_pair(config.network.activation)
    for name, value, known in (
        ("network.init", config.network.init, INITIALIZERS),
        ("matmul_precision", config.matmul_precision, PRECISIONS),
    ):
        if value not in known:
            raise InputError(
                f"config.{name}={value!r} is unknown: use one of {', '.join(known)}"
            )
    if not config.structures:
        raise InputError("config.structures is empty: name at least one structure")
    for name, values in (
        ("seeds", config.seeds),
        ("depths", config.depths),
        ("structures and readout.structures", structures),
    ):
        if len(set(values)) < len(values):
            raise InputError(f"config.{name} must name each once, not {values}")


def _check_counts(config: Config) -> None:
    for name, values, least in (
        ("seeds", config.seeds, 0),
        ("depths", config.depths, 1),
        ("readout.depths", config.readout.depths or (1,), 1),
        ("timing.depth", (config.timing.depth,), 1),
        ("timing.checkpoints", config.timing.checkpoints, 1),
        ("steps", (config.steps,), 1),
        ("batch_size", (config.batch_size,), 1),
        ("task.samples", (config.task.samples,), 1),
        ("task.dim", (config.task.dim,), 1),
        ("parallel_cells", (config.parallel_cells,), 1),
    ):
        whole = all(isinstance(v, int) and least <= v < 2**31 for v in values)
        if not values or not whole:
            raise InputError(
                f"config.{name} must be whole and at least {least}, not {values}"
            )
