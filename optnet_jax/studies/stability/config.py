"""The fields of ``configs/stability.py``."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from optnet_jax.configuration import Block
from optnet_jax.configuration.kinds import Items, Range
from optnet_jax.configuration.train import Count, Data, Name, Rate, Seed
from optnet_jax.errors import InputError
from optnet_jax.studies.kinds import (
    Activation,
    Depths,
    Layers,
    Positive,
    Seeds,
    Workers,
)

Width = Annotated[int, Range(least=1, most=2**16)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Norms(Block):
    """``config.stability.norms``: structures of fully connected layers, He normal.

    Attributes:
        depth: Layers.
        width: Features.
        batch: Samples.
        activation: Φ.
    """

    path: ClassVar[str] = "stability.norms."

    depth: Layers
    width: Width
    batch: Count
    activation: Activation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stability(Block):
    """``config.stability``.

    Attributes:
        norms: Where norms are measured.
        tolerance: A layer may amplify by 1 + tolerance before it is warned of.
    """

    path: ClassVar[str] = "stability."

    norms: Norms
    tolerance: Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial(Block):
    """``config.trial``: see :mod:`optnet_jax.studies.stability.trial`.

    Attributes:
        depths: Weight layers.
        width: Features.
        normalize: With and without batch normalisation.
        learning_rates: Those that are tried.
        seeds: Those that each is tried with.
        steps: Of training.
        failed_above: Mean loss of the last tenth of the steps above which a run has
            failed: a guess has log 10 = 2.30.
    """

    path: ClassVar[str] = "trial."

    depths: Depths
    width: Width
    normalize: Annotated[tuple[bool, ...], Items(least=1, distinct=True)]
    learning_rates: Annotated[tuple[Rate, ...], Items(least=1, distinct=True)]
    seeds: Seeds
    steps: Count
    failed_above: Positive

    def check(self) -> None:
        """Refuse a depth that is no 2 n + 2."""
        for depth in self.depths:
            if depth < 4 or depth % 2:
                raise InputError(
                    f"config.trial.depths has {depth}: two layers a unit and two "
                    "around them make an even number of at least 4"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StabilityConfig(Block):
    """The study; see :mod:`optnet_jax.studies.stability.run`.

    Attributes:
        name: Of the run.
        experiment: Of ``main.STUDIES``.
        seed: Draws weights, inputs and the order of the images.
        stability: Roots and norms.
        trial: Training at depth.
        data: Its images.
        parallel_cells: Cells that are trained at once on a CPU.
    """

    name: Name
    experiment: Literal["stability"] = "stability"
    seed: Seed
    stability: Stability
    trial: Trial
    data: Data
    parallel_cells: Workers = 1
