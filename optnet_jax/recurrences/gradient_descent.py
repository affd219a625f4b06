"""Gradient descent (1); as a structure, the plain feed-forward network (7)."""

import dataclasses
from typing import Any

from optnet_jax.recurrences.base import Coefficients, FieldCoefficients, Transform


@dataclasses.dataclass(frozen=True)
class GradientDescent(FieldCoefficients):
    """x_{k+1} = T(x_k); the step size is 1, so there are no coefficients.

    With T(z) = z - ∇f(z) it is (1); with T(x) = Φ(Wx) it is (7).
    """

    def init(self, x0: Any) -> Any:
        """Return x_0."""
        return x0

    def step(self, transform: Transform, state: Any, c: Coefficients) -> Any:
        """Return T(x_k)."""
        del c
        return transform(state)

    def output(self, state: Any) -> Any:
        """Return x_K."""
        return state
