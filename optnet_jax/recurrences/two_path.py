"""The relaxed two-path structure (20), with DMRNet as its default."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np

from optnet_jax.errors import InputError
from optnet_jax.kinds import convert
from optnet_jax.recurrences.base import (
    Coefficients,
    FieldCoefficients,
    Operators,
    check_depth,
    numbers,
    pair,
)

Readout = Literal["x", "x_prime", "mean"]
"""Which of the two paths is the output."""


class TwoPaths(FieldCoefficients):
    """What methods of two paths have in common: a state (x', x, a running sum).

    Attributes:
        readout: what is returned: ``"x"``, ``"x_prime"`` or their ``"mean"``.

    Raises:
        InputError: an unknown readout.
    """

    paths: ClassVar[Literal[2]] = 2
    readout: Readout

    def __post_init__(self):
        super().__post_init__()
        convert(self.readout, Readout, "readout")

    def init(self, x0: Any) -> tuple:
        """Return (x'_0, x_0, 0) with x'_0 = x_0; a pair x0 is (x'_0, x_0)."""
        x_prime, x = pair(x0)
        return x_prime, x, jnp.zeros_like(x)

    def iterates(self, state: tuple) -> tuple:
        """Return (x'_k, x_k)."""
        return state[:2]

    def output(self, state: tuple) -> Any:
        """Return x_K, x'_K or their mean, as ``readout`` says."""
        x_prime, x = state[:2]
        return {"x": x, "x_prime": x_prime, "mean": (x_prime + x) / 2}[self.readout]


@dataclasses.dataclass(frozen=True)
class TwoPath(TwoPaths):
    """x' ← T'(x') + s, x ← T(x) + s, with s ← μ s + α x' + β x before both.

    (20) with its sum over t kept as a running sum s. μ = 0 keeps only the newest term:
    with α = β = ½ that is DMRNet, the default. μ = 1 keeps all of them, from t = 0 on:
    Σ_{t=0}^k (α_t x'_t + β_t x_t). (20) is printed with a sum from t = 1 on, so x'_0
    and x_0 are in no sum and the first step adds nothing: :meth:`printed`. Both lines
    use the old x', so (20) does not contain (14): that is
    :class:`~optnet_jax.recurrences.ADMM`.

    Attributes:
        alpha: α_k, a scalar or one for each step.
        beta: β_k, likewise.
        memory: μ_k, likewise.
        readout: what is returned: ``"x"``, ``"x_prime"`` or their ``"mean"``.
    """

    alpha: Any = 0.5
    beta: Any = 0.5
    memory: Any = 0.0
    readout: Readout = "mean"
    names: ClassVar[tuple[str, ...]] = ("alpha", "beta", "memory")

    @classmethod
    def printed(
        cls, depth: int, alpha: Any = 0.5, beta: Any = 0.5, readout: Readout = "mean"
    ) -> "TwoPath":
        """Return (20) as printed: a sum over t = 1..k, so α_0 = β_0 = 0 and μ = 1.

        Args:
            depth: the number of steps K.
            alpha: α_1..α_{K-1}, a scalar for all of them or one value for each, [K-1].
            beta: β_1..β_{K-1}, likewise.
            readout: what is returned.
        """
        rows, depth = {"alpha": alpha, "beta": beta}, check_depth(depth)
        for name, value in rows.items():
            later = numbers(name, value)
            if later.ndim and later.shape != (depth - 1,):
                raise InputError(
                    f"{name} must be a scalar or have one entry for each of the steps "
                    f"1 to {depth - 1}, got shape {later.shape}"
                )
            rows[name] = [0.0, *np.broadcast_to(later, depth - 1)]
        return cls(**rows, memory=1.0, readout=readout)

    def step(self, transform: Operators, state: tuple, c: Coefficients) -> tuple:
        """Return (x'_{k+1}, x_{k+1}, s_k)."""
        transform_prime, transform_plain = pair(transform)
        x_prime, x, total = state
        total = c["memory"] * total + c["alpha"] * x_prime + c["beta"] * x
        return transform_prime(x_prime) + total, transform_plain(x) + total, total
