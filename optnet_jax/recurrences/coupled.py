"""RevNet (Gomez, Ren, Urtasun, Grosse 2017): two paths that read each other."""

import dataclasses
from typing import Any

from optnet_jax.recurrences.base import Coefficients, Operators, pair
from optnet_jax.recurrences.two_path import Readout, TwoPaths


@dataclasses.dataclass(frozen=True)
class Coupled(TwoPaths):
    """x' ← x' + T'(x), then x ← x + T(x') with the new x'.

    Each line can be solved for what it replaces, so the iterates of all layers follow
    from the last ones. Source: "The Reversible Residual
    Network", NeurIPS 2017, where the two paths are halves of the channels; here each
    has all of them and both begin at x_0, as in (20).

    Attributes:
        readout: what is returned: ``"x"``, ``"x_prime"`` or their ``"mean"``.
    """

    readout: Readout = "mean"

    def init(self, x0: Any) -> tuple:
        """Return (x'_0, x_0) = (x_0, x_0); a pair x0 is (x'_0, x_0)."""
        return pair(x0)

    def step(self, transform: Operators, state: tuple, c: Coefficients) -> tuple:
        """Return (x'_{k+1}, x_{k+1})."""
        transform_prime, transform_plain = pair(transform)
        x_prime, x = state
        x_prime = x_prime + transform_prime(x)
        return x_prime, x + transform_plain(x_prime)

    def undo(self, transform: Operators, state: tuple, c: Coefficients) -> tuple:
        """Return (x'_k, x_k): first x_k = x_{k+1} - T(x'_{k+1}), then x'_k."""
        transform_prime, transform_plain = pair(transform)
        x_prime, x = state
        x = x - transform_plain(x_prime)
        return x_prime - transform_prime(x), x
