"""F of Lemma 1 with a chosen condition number, and its minimiser."""

import dataclasses
import math
from collections.abc import Callable

import jax
import numpy as np

from optnet_jax.errors import InputError
from optnet_jax.objectives import activation_pair, square_root


@dataclasses.dataclass(frozen=True)
class Problem:
    """min_z f(z), f of (8), with x* = U⁻¹ z*.

    The Hessian at the minimiser is I - U diag(Φ'(U z*)) U, with eigenvalues between
    ``mu`` and ``smoothness``: near z* a method's rate is that of this quadratic. Where
    Φ has a kink at z* the larger one-sided slope counts, and the rate is a bound.

    Attributes:
        activation: the row of Table 1.
        u: U. [n, n]
        minimiser: z*. [n]
        mu: the Hessian's smallest eigenvalue at z*, μ.
        smoothness: its largest, L.
    """

    activation: str
    u: np.ndarray
    minimiser: np.ndarray
    mu: float
    smoothness: float

    @property
    def condition(self) -> float:
        """κ = L/μ."""
        return self.smoothness / self.mu


def make_problem(
    activation: str, condition: float, dimension: int = 20, seed: int = 0
) -> Problem:
    """Return f of (8) for a W drawn so that f has a condition number at its minimiser.

    W has eigenvalues spread evenly over [s/20, s] and a random basis, but for the
    constant vector, which belongs to the smallest, w = s/20: x* is then a constant
    vector on which no Φ saturates, of entries x = Φ(w x), and the Hessian there is
    I - Φ'(w x) W. s is found by bisection. The step size is the 1 of (1), so L stays
    near 1 and κ = L/μ is set by μ.

    Args:
        activation: a row of Table 1.
        condition: κ > 1.
        dimension: n ≥ 2.
        seed: of W's basis.

    Returns:
        The problem in float64, its condition number within 1e-6 of the one asked for.

    Raises:
        InputError: an unknown activation, κ ≤ 1, n < 2, or a κ that no W reaches.
    """
    phi, _ = activation_pair(activation)
    if not condition > 1:
        raise InputError(f"condition must be above 1, got {condition}")
    if dimension < 2:
        raise InputError(f"dimension must be at least 2, got {dimension}")
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(dimension, dimension))
    vectors[:, 0] = 1
    basis = np.linalg.qr(vectors)[0]
    spectrum = np.linspace(0.05, 1, dimension)
    phi_and_slope = jax.jit(jax.value_and_grad(phi))

    def at(scale: float) -> Problem | None:
        with jax.enable_x64(True):
            found = _fixed_point(phi_and_slope, scale * spectrum[0])
        if found is None:
            return None
        x, slope = found
        curvatures = 1 - slope * scale * spectrum
        if curvatures.min() <= 0:
            return None
        w = (basis * (scale * spectrum)) @ basis.T
        with jax.enable_x64(True):
            u = np.asarray(square_root((w + w.T) / 2))
        z = np.full(dimension, math.sqrt(scale * spectrum[0]) * x)
        return Problem(activation, u, z, curvatures.min(), curvatures.max())

    low, high = 0.0, 1.0
    while (problem := at(high)) and problem.condition < condition and high < 1e6:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        problem = at(middle)
        if problem and abs(problem.condition / condition - 1) < 1e-6:
            return problem
        if problem and problem.condition < condition:
            low = middle
        else:
            high = middle
    raise InputError(
        f"no W of this form gives {activation} the condition number {condition:g}: "
        f"try a smaller one"
    )


def _fixed_point(phi_and_slope: Callable, w: float) -> tuple[float, float] | None:
    """Solve x = Φ(w x) by Newton's method from 0; return x and Φ'(w x), or None."""
    x = 0.0
    for _ in range(100):
        value, slope = map(float, phi_and_slope(w * x))
        slope = max(slope, float(phi_and_slope(w * x + 1e-9)[1]))  # of a kink, both
        missed = x - value
        if abs(missed) < 1e-14 * max(1.0, abs(x)):
            return x, slope
        x -= missed / (1 - w * slope)
    return None
