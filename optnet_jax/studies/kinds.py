"""Kinds of fields that the configs of several studies have."""

from typing import Annotated

from optnet_jax.kinds import INT32, Items, OneOf, Range
from optnet_jax.objectives import ACTIVATIONS

Activation = Annotated[str, OneOf(tuple(ACTIVATIONS))]
Condition = Annotated[float, Range(above=1, most=1e12, meaning="L/μ")]
Positive = Annotated[float, Range(above=0, most=1e30)]
Layers = Annotated[int, Range(least=1, most=10**6)]
Depths = Annotated[tuple[Layers, ...], Items(least=1, distinct=True)]
# NumPy and JAX hold the seeds of a study in arrays of int32.
Seeds = Annotated[
    tuple[Annotated[int, Range(least=0, most=INT32)], ...],
    Items(least=1, distinct=True),
]
# Cells that are worked out at once on a CPU.
Workers = Annotated[int, Range(least=1, most=1024)]
