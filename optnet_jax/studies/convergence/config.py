"""The fields of ``configs/convergence.py``."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from optnet_jax.configuration import Block
from optnet_jax.configuration.kinds import Items, Range
from optnet_jax.configuration.train import Name, Seed
from optnet_jax.studies.kinds import Activation, Condition, Layers, Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Block):
    """``config.convergence``.

    Attributes:
        activations: Rows of Table 1.
        conditions: κ = L/μ of the Hessian at the minimiser.
        dimension: n of the problem.
        depth: Layers at most.
        epsilon: What counts as reached, relative to the start.
        radius: ‖z_0 - z*‖: small, so that the rates are those near the minimiser.
    """

    path: ClassVar[str] = "convergence."

    activations: Annotated[tuple[Activation, ...], Items(least=1, distinct=True)]
    conditions: Annotated[tuple[Condition, ...], Items(least=1, distinct=True)]
    dimension: Annotated[int, Range(least=2, most=4096)]
    depth: Layers
    epsilon: Annotated[float, Range(above=0, below=1)]
    radius: Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvergenceConfig(Block):
    """The study; see :mod:`optnet_jax.studies.convergence.run`.

    Attributes:
        name: Of the run.
        experiment: Of ``main.STUDIES``.
        seed: Draws W and the start.
        convergence: What is measured.
    """

    name: Name
    experiment: Literal["convergence"] = "convergence"
    seed: Seed
    convergence: Settings
