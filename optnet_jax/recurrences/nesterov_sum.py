"""Nesterov's method as a sum over the past (4)-(5); as a structure (13): AGD2."""

import dataclasses
from typing import Any, ClassVar

from optnet_jax.recurrences.base import (
    Coefficients,
    FieldCoefficients,
    Transform,
    check_depth,
)
from optnet_jax.recurrences.coefficients import momentum


@dataclasses.dataclass(frozen=True)
class NesterovSum(FieldCoefficients):
    """x_{k+1} = x_k - Σ_{j≤k} h_{k+1,j} (x_j - T_j(x_j)).

    (13) in the form of (4), computed without the sum. Let m_{k+1} be the sum and
    r_k = x_k - T_k(x_k). By (5), m_{k+1} = (1 + β_{k+1}) r_k + β_{k+1} (m_k - r_{k-1})
    with m_0 = r_{-1} = 0. With z_{k+1} = T_k(x_k) and z_0 = x_0 this is

      x_{k+1} = z_{k+1} + β_{k+1} (z_{k+1} - z_k),

    since x_k - m_{k+1} = z_{k+1} - β_{k+1} (r_k + m_k - r_{k-1}) and
    r_k + m_k - r_{k-1} = (x_k - z_{k+1}) + (x_{k-1} - x_k) - (x_{k-1} - z_k)
    = z_k - z_{k+1}. So (13) runs the hidden sequence z of (12), also when T_k differs
    from layer to layer, and returns the extrapolated y_K where (12) returns z_K. The
    sum itself is :class:`~optnet_jax.recurrences.HistorySum`.

    Attributes:
        beta: β_1..β_K, a scalar or one for each step; None: those of (3).
    """

    beta: Any = None
    names: ClassVar[tuple[str, ...]] = ("beta",)

    def coefficients(self, depth: int) -> Coefficients:
        """Return beta = β_1..β_K, [depth]: step k extrapolates with β_{k+1}."""
        own = momentum(check_depth(depth) + 1)[1:]
        return {"beta": own, **super().coefficients(depth)}

    def init(self, x0: Any) -> tuple:
        """Return (x_0, z_0) = (x_0, x_0)."""
        return x0, x0

    def step(self, transform: Transform, state: tuple, c: Coefficients) -> tuple:
        """Return (x_{k+1}, z_{k+1})."""
        x, z = state
        z_next = transform(x)
        return z_next + c["beta"] * (z_next - z), z_next

    def output(self, state: tuple) -> Any:
        """Return x_K."""
        return state[0]
