"""LM-ResNet (Lu, Zhong, Li, Dong 2018): (16) with one coefficient a step."""

import dataclasses
from typing import Any, ClassVar

from optnet_jax.recurrences.base import (
    Coefficients,
    FieldCoefficients,
    Transform,
    TwoIterates,
    scaled,
)


@dataclasses.dataclass(frozen=True)
class LinearMultistep(FieldCoefficients, TwoIterates):
    """x_{k+1} = T(x_k) + (1 - k) x_k + k x_{k-1}, x_{-1} = x_0.

    (16) with β1 + β2 = 1, which makes it a two-step method for an ordinary
    differential equation; k = 0, the default, is ResNet, k = 1 the midpoint rule. It is
    a recurrence of its own because a learned k keeps the sum 1. Source: "Beyond Finite
    Layer Neural Networks", ICML 2018, where k is learned.

    Attributes:
        k: the coefficient, a scalar or one for each step.
    """

    k: Any = 0.0
    names: ClassVar[tuple[str, ...]] = ("k",)

    def step(self, transform: Transform, state: tuple, c: Coefficients) -> tuple:
        """Return (x_{k+1}, x_k)."""
        x, previous = state
        t = transform(x)
        return t + scaled(1 - c["k"], x) + scaled(c["k"], previous), x
