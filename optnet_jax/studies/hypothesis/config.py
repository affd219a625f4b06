"""The fields of ``configs/hypothesis.py``."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from optnet_jax.configuration import Block
from optnet_jax.configuration.kinds import Items, OneOf, Range
from optnet_jax.configuration.train import Count, Name, Rate
from optnet_jax.errors import InputError
from optnet_jax.recurrences import methods
from optnet_jax.studies.kinds import (
    Activation,
    Condition,
    Depths,
    Layers,
    Positive,
    Seeds,
    Workers,
)

Label = Annotated[str, OneOf(lambda: tuple(m.label for m in methods.minimisers()))]
BASELINE = methods.find("gd").label
"""Gradient descent: what every other structure is compared with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples(Block):
    """``config.hypothesis.samples``: sizes of the three splits of a problem."""

    path: ClassVar[str] = "hypothesis.samples."

    train: Count
    validation: Count
    test: Count


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(Block):
    """``config.hypothesis.constant``: §5.1 to the letter, the target one vector.

    Attributes:
        activation: Φ.
        depths: Layers of the networks.
    """

    path: ClassVar[str] = "hypothesis.constant."

    activation: Activation
    depths: Depths


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Block):
    """``config.hypothesis``.

    Attributes:
        methods: Labels of :data:`optnet_jax.recurrences.methods.METHODS`.
        depths: Layers of the networks.
        tyings: One W a layer (15), or one for all (§5.1).
        activation: Φ.
        condition: κ of the task.
        dimension: n of the task.
        samples: Sizes of the splits.
        steps: Of training.
        batch_size: Samples of a step.
        learning_rates: Those that are tuned over.
        tuning_seeds: Problems that the rate is chosen on.
        seeds: Problems that are reported.
        tolerances: Relative test errors for which layers are counted.
        untrained_depth: Iterations of the methods themselves, with the true W.
        constant: The second part of the study.
    """

    path: ClassVar[str] = "hypothesis."

    methods: Annotated[tuple[Label, ...], Items(least=1, distinct=True)]
    depths: Depths
    tyings: Annotated[
        tuple[Literal["untied", "tied"], ...], Items(least=1, distinct=True)
    ]
    activation: Activation
    condition: Condition
    dimension: Annotated[int, Range(least=2, most=4096)]
    samples: Samples
    steps: Count
    batch_size: Count
    learning_rates: Annotated[tuple[Rate, ...], Items(least=1, distinct=True)]
    tuning_seeds: Seeds
    seeds: Seeds
    tolerances: Annotated[tuple[Positive, ...], Items(least=1, distinct=True)]
    untrained_depth: Layers
    constant: Constant

    def check(self) -> None:
        """Refuse a study that compares with nothing, or chooses on what it reports."""
        if BASELINE not in self.methods:
            raise InputError(
                f"config.hypothesis.methods lacks the baseline, {BASELINE!r}: add it"
            )
        if set(self.seeds) & set(self.tuning_seeds):
            raise InputError(
                "config.hypothesis.tuning_seeds must differ from seeds: a rate that is "
                "tuned on what is reported favours whatever is tuned"
            )
        for name, size in self.samples.as_mapping().items():
            if size < self.batch_size:
                raise InputError(
                    f"config.hypothesis.samples.{name}={size} must be at least "
                    f"batch_size={self.batch_size}"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HypothesisConfig(Block):
    """The study; see :mod:`optnet_jax.studies.hypothesis.run`.

    Attributes:
        name: Of the run.
        experiment: Of ``main.STUDIES``.
        hypothesis: The study.
        parallel_cells: Cells that are trained at once on a CPU.
    """

    name: Name
    experiment: Literal["hypothesis"] = "hypothesis"
    hypothesis: Settings
    parallel_cells: Workers = 1
