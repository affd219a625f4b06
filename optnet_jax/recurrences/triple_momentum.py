"""Triple momentum (Van Scoy, Freeman, Lynch 2018): GD, (11) and (12) in one family."""

import dataclasses
import math
from typing import Any, ClassVar

from optnet_jax.recurrences.base import (
    Coefficients,
    FieldCoefficients,
    Transform,
    check_mu,
)


@dataclasses.dataclass(frozen=True)
class TripleMomentum(FieldCoefficients):
    """Three extrapolations along the last step, and a step size.

    With d = ξ_k - ξ_{k-1}, ξ_{-1} = ξ_0 = x_0,

      y = ξ_k + γ d,
      ξ_{k+1} = ξ_k + β d + α (T(y) - y),
      x_{k+1} = ξ_{k+1} + δ (ξ_{k+1} - ξ_k).

    T(y) - y is -∇f(y) where T is a gradient step. With α = 1 and δ = 0, β = γ = 0 is
    gradient descent (7), γ = 0 the heavy ball (11), and β = γ Nesterov's method (12).
    Source: "The Fastest Known Globally Convergent First-Order Method for Minimizing
    Strongly Convex Functions", IEEE Control Systems Letters 2 (1).

    Attributes:
        alpha: α, a scalar or one for each step.
        beta: β, likewise.
        gamma: γ, likewise.
        delta: δ, likewise.
    """

    alpha: Any = 1.0
    beta: Any = 0.3
    gamma: Any = 0.3
    delta: Any = 0.0
    names: ClassVar[tuple[str, ...]] = ("alpha", "beta", "gamma", "delta")

    def init(self, x0: Any) -> tuple:
        """Return (ξ_0, ξ_{-1}, x_0), all x_0."""
        return x0, x0, x0

    def restart(self, x0: Any, previous: Any) -> tuple:
        """Return (ξ_0, ξ_{-1}, x_0) = (x0, previous, x0)."""
        return x0, previous, x0

    def step(self, transform: Transform, state: tuple, c: Coefficients) -> tuple:
        """Return (ξ_{k+1}, ξ_k, x_{k+1})."""
        xi, previous, _ = state
        moved = xi - previous
        y = xi + c["gamma"] * moved
        xi_next = xi + c["beta"] * moved + c["alpha"] * (transform(y) - y)
        return xi_next, xi, xi_next + c["delta"] * (xi_next - xi)

    def output(self, state: tuple) -> Any:
        """Return x_K."""
        return state[2]


def triple_momentum(mu: float) -> TripleMomentum:
    """Return the method with the coefficients that its authors tune to μ, for L = 1.

    With ρ = 1 - √μ, the contraction of ‖ξ_k - x*‖ in one step: α = 1 + ρ,
    β = ρ² / (2 - ρ), γ = ρ² / ((1 + ρ)(2 - ρ)), δ = ρ² / (1 - ρ²).

    Args:
        mu: the strong convexity μ, 0 < μ ≤ 1.

    Raises:
        InputError: μ out of this range.
    """
    rho = 1 - math.sqrt(check_mu(mu))
    return TripleMomentum(
        1 + rho,
        rho**2 / (2 - rho),
        rho**2 / ((1 + rho) * (2 - rho)),
        rho**2 / (1 - rho**2),
    )
