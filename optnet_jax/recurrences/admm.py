"""Linearised ADMM (6); as a structure, the two-path network (14)."""

import dataclasses

from optnet_jax.recurrences.base import Coefficients, Operators, pair
from optnet_jax.recurrences.two_path import Readout, TwoPaths


@dataclasses.dataclass(frozen=True)
class ADMM(TwoPaths):
    """x' ← ½ (T'(x') + x - λ), x ← ½ (T(x) + x' + λ), λ ← λ + x' - x.

    (14), with λ_k = Σ_{t=1}^k (x'_t - x_t) kept as a running sum, x'_0 = x_0 and
    λ_0 = 0; the second line uses the new x'. In (6) z is x' and y is x: both argmins
    are of quadratics with curvature 2, hence the two halves, and the penalty parameter
    is 1. T' = T in (14); a pair of operators gives each path its own.

    Attributes:
        readout: what is returned: ``"x"``, ``"x_prime"`` or their ``"mean"``.
    """

    readout: Readout = "x"

    def step(self, transform: Operators, state: tuple, c: Coefficients) -> tuple:
        """Return (x'_{k+1}, x_{k+1}, λ_{k+1})."""
        del c
        transform_prime, transform_plain = pair(transform)
        x_prime, x, multiplier = state
        x_prime = (transform_prime(x_prime) + x - multiplier) / 2
        x = (transform_plain(x) + x_prime + multiplier) / 2
        return x_prime, x, multiplier + x_prime - x
