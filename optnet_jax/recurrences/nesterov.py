"""Nesterov's accelerated gradient (3); as a structure (12), relaxed (17)."""

import dataclasses
from typing import Any

from optnet_jax.recurrences.base import Coefficients, Transform, as_field, per_step
from optnet_jax.recurrences.coefficients import momentum
from optnet_jax.recurrences.heavy_ball import TwoIterates


@dataclasses.dataclass(frozen=True)
class Nesterov(TwoIterates):
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

    def __post_init__(self):
        object.__setattr__(self, "beta1", as_field("beta1", self.beta1))
        object.__setattr__(self, "beta2", as_field("beta2", self.beta2))

    def coefficients(self, depth: int) -> Coefficients:
        """Return beta1 and beta2, [depth] each."""
        beta = momentum(depth)
        beta1 = 1 + beta if self.beta1 is None else self.beta1
        beta2 = -beta if self.beta2 is None else self.beta2
        return {
            "beta1": per_step("beta1", beta1, depth),
            "beta2": per_step("beta2", beta2, depth),
        }

    def step(self, transform: Transform, state: tuple, c: Coefficients) -> tuple:
        """Return (x_{k+1}, x_k)."""
        x, x_previous = state
        return transform(c["beta1"] * x + c["beta2"] * x_previous), x
