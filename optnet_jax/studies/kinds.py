"""Kinds of fields that the configs of several studies have."""

from typing import Annotated

from optnet_jax.configuration.train import Rate
from optnet_jax.kinds import INT32, Items, OneOf, Range, Rule
from optnet_jax.objectives import ACTIVATIONS
from optnet_jax.structures.fields import AtLeastOne as Layers
from optnet_jax.structures.fields import Fraction

SOME = Items(least=1, distinct=True)


def printed_apart(form: str = "g") -> Rule:
    """Return the rule for numbers that name lines, columns or structures of a table."""
    return Rule(
        "different as they are printed, by which they are told apart",
        lambda values: len({format(v, form) for v in values}) == len(values),
    )


Activation = Annotated[str, OneOf(tuple(ACTIVATIONS))]
Condition = Annotated[float, Range(above=1, most=1e12, meaning="L/μ")]
Positive = Annotated[float, Range(above=0, most=1e30)]
Factors = Annotated[tuple[Positive, ...], SOME, printed_apart()]
Fractions = Annotated[tuple[Fraction, ...], SOME, printed_apart()]
Rates = Annotated[tuple[Rate, ...], SOME]
Size = Annotated[int, Range(least=1, most=4096)]
Depths = Annotated[tuple[Layers, ...], SOME]
# NumPy and JAX hold the seeds of a study in arrays of int32.
Seeds = Annotated[tuple[Annotated[int, Range(least=0, most=INT32)], ...], SOME]
# Of the networks of :mod:`.trial`.
WeightDepths = Annotated[
    tuple[
        Annotated[
            Layers,
            Rule(
                "even and at least 4: two layers a unit and two around them",
                lambda depth: depth >= 4 and depth % 2 == 0,
            ),
        ],
        ...,
    ],
    SOME,
]
# With and without batch normalisation.
Normalize = Annotated[tuple[bool, ...], SOME]
# Cells that are worked out at once on a CPU.
Workers = Annotated[int, Range(least=1, most=1024)]
