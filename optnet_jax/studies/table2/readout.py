"""Any method read out as (13) reads out Nesterov's: extrapolated once more."""

from __future__ import annotations

import dataclasses
from typing import Any

from optnet_jax.recurrences import Coefficients, Recurrence, State, Transform, momentum


@dataclasses.dataclass(frozen=True)
class Extrapolated:
    """y_K = x_K + β_K (x_K - x_{K-1}) instead of x_K, with β of (3).

    The hidden sequence x is the method's own. (12) and (13) share theirs, and (13)
    returns this y_K, so ``Extrapolated(Nesterov())`` is ``NesterovSum()`` as a
    function of the weights; ``Extrapolated(GradientDescent())`` has AGD2's read-out and
    nothing else of it.

    Attributes:
      recurrence: the method whose output is extrapolated.
    """

    recurrence: Recurrence

    def coefficients(self, depth: int) -> Coefficients:
        """Return the method's coefficients and readout_beta = β_1..β_K, [depth]."""
        own = self.recurrence.coefficients(depth)
        return {**own, "readout_beta": momentum(depth + 1)[1:]}

    def init(self, x0: Any) -> State:
        """Return (the method's state, y_0 = x_0)."""
        return self.recurrence.init(x0), x0

    def step(self, transform: Transform, state: State, c: Coefficients) -> State:
        """Return (the method's next state, y_{k+1})."""
        inner, _ = state
        x = self.recurrence.output(inner)
        inner = self.recurrence.step(transform, inner, c)
        x_next = self.recurrence.output(inner)
        return inner, x_next + c["readout_beta"] * (x_next - x)

    def output(self, state: State) -> Any:
        """Return y_K."""
        return state[1]
