"""The fields of ``configs/table2.py``."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from optnet_jax.configuration import Block
from optnet_jax.configuration.kinds import Items, OneOf, Range
from optnet_jax.configuration.train import Count, Momentum, Name, Rate
from optnet_jax.errors import InputError
from optnet_jax.studies.kinds import Activation, Depths, Layers, Seeds, Workers
from optnet_jax.studies.table2.contenders import contenders

Structure = Annotated[str, OneOf(lambda: tuple(contenders()))]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(Block):
    """``config.task``.

    Attributes:
        samples: Pairs that are drawn.
        dim: Of each.
    """

    path: ClassVar[str] = "task."

    samples: Count
    dim: Count


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network(Block):
    """``config.network``.

    Attributes:
        activation: Φ.
        use_bias: Add a bias before it.
        init: How W is drawn.
    """

    path: ClassVar[str] = "network."

    activation: Activation
    use_bias: bool
    init: Literal["xavier_normal", "xavier_uniform", "he_normal", "lecun_normal"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(Block):
    """``config.optimizer``: SGD.

    Attributes:
        learning_rate: The rate.
        slow_factor: The lower rate, relative to it.
        momentum: Of the heavy ball; 0 is off.
    """

    path: ClassVar[str] = "optimizer."

    learning_rate: Rate
    slow_factor: Rate
    momentum: Momentum


@dataclasses.dataclass(frozen=True, kw_only=True)
class Readout(Block):
    """``config.readout``: the ablation of what is read out.

    Attributes:
        structures: What is trained for it.
        depths: Layers of them.
    """

    path: ClassVar[str] = "readout."

    structures: tuple[Structure, ...]
    depths: Annotated[tuple[Layers, ...], Items(distinct=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing(Block):
    """``config.timing``: the order of the structures against the time of training.

    Attributes:
        depth: Layers.
        checkpoints: Steps after which the error is measured.
    """

    path: ClassVar[str] = "timing."

    depth: Layers
    checkpoints: Annotated[tuple[Count, ...], Items(least=1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table2Config(Block):
    """The study; see :mod:`optnet_jax.studies.table2.run`.

    Attributes:
        name: Of the run.
        experiment: Of ``main.STUDIES``.
        seeds: Of the draws of pairs and weights.
        depths: Layers.
        structures: Keys of :func:`optnet_jax.studies.table2.contenders.contenders`.
        heavy_ball_beta: β of (11).
        task: The pairs.
        network: The layers.
        optimizer: The optimiser.
        steps: Of training.
        batch_size: Samples of a step; divides those that there are.
        readout: The ablation.
        timing: The time of training.
        matmul_precision: Of float32 products, where a device has a choice.
        parallel_cells: Cells that are trained at once on a CPU.
    """

    name: Name
    experiment: Literal["table2"] = "table2"
    seeds: Seeds
    depths: Depths
    structures: Annotated[tuple[Structure, ...], Items(least=1, distinct=True)]
    heavy_ball_beta: Annotated[float, Range(above=-1, below=1)]
    task: Task
    network: Network
    optimizer: Optimizer
    steps: Count
    batch_size: Count
    readout: Readout
    timing: Timing
    matmul_precision: Literal["default", "high", "highest"]
    parallel_cells: Workers = 1

    def check(self) -> None:
        """Refuse batches that do not share the samples, and cells that come twice."""
        if self.task.samples % self.batch_size:
            raise InputError(
                f"config.batch_size={self.batch_size} must divide config.task.samples="
                f"{self.task.samples}: every sample counts the same"
            )
        twice = set(self.structures) & set(self.readout.structures)
        if twice or len(set(self.readout.structures)) < len(self.readout.structures):
            raise InputError(
                "config.structures and readout.structures must name each once, not "
                f"{(*self.structures, *self.readout.structures)}"
            )
