"""Nesterov's accelerated gradient (3); as a structure (12), relaxed (17)."""

import dataclasses
from typing import Any, ClassVar

from optnet_jax.recurrences.base import (
    Coefficients,
    FieldCoefficients,
    Transform,
    TwoIterates,
    scaled,
)
from optnet_jax.recurrences.coefficients import momentum


@dataclasses.dataclass(frozen=True)
class Nesterov(FieldCoefficients, TwoIterates):
    """x_{k+1} = T(β1 x_k + β2 x_{k-1}), x_{-1} = x_0.

    (17); (12) is β1 = 1 + β_k, β2 = -β_k with β_k of (3), the default. For a
    μ-strongly convex, L-smooth f the method takes β_k = (√L - √μ)/(√L + √μ)
    (footnote 4): ``Nesterov(1 + beta, -beta)``.

    Attributes:
        beta1: the coefficient of x_k, a scalar or one for each step; None: 1 + β_k.
        beta2: the coefficient of x_{k-1}, likewise; None: -β_k.
    """

    beta1: Any = None
    beta2: Any = None
    names: ClassVar[tuple[str, ...]] = ("beta1", "beta2")

    def coefficients(self, depth: int) -> Coefficients:
        """Return beta1 and beta2, [depth] each."""
        beta = momentum(depth)
        return {"beta1": 1 + beta, "beta2": -beta, **super().coefficients(depth)}

    def step(self, transform: Transform, state: tuple, c: Coefficients) -> tuple:
        """Return (x_{k+1}, x_k)."""
        x, x_previous = state
        y = scaled(c["beta1"], x) + scaled(c["beta2"], x_previous)
        return transform(y), x
