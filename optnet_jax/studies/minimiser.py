"""F of Lemma 1 with a chosen condition number, and its minimiser."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.errors import InputError
from optnet_jax.objectives import activation_pair, gradient_step, square_root


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
    constant vector, which belongs to the smallest: x* is then a constant vector on
    which no Φ saturates. s is found by bisection. The step size is the 1 of (1), so L
    stays near 1 and κ = L/μ is set by μ. Needs double precision (``jax.enable_x64``).

    Args:
        activation: a row of Table 1.
        condition: κ > 1.
        dimension: n ≥ 2.
        seed: of W's basis.

    Returns:
        The problem, its condition number within 1e-6 of the one asked for.

    Raises:
        InputError: an unknown activation, κ ≤ 1, n < 2, single precision, or a κ that
            no W reaches.
    """
    activation_pair(activation)
    if not condition > 1:
        raise InputError(f"condition must be above 1, got {condition}")
    if dimension < 2:
        raise InputError(f"dimension must be at least 2, got {dimension}")
    if not jax.config.jax_enable_x64:  # pyright: ignore
        raise InputError(
            "convergence to 1e-12 needs double precision: use jax.enable_x64(True)"
        )
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(dimension, dimension))
    vectors[:, 0] = 1
    basis = np.linalg.qr(vectors)[0]
    spectrum = np.linspace(0.05, 1, dimension)

    def at(scale: float) -> Problem | None:
        w = (basis * (scale * spectrum)) @ basis.T
        return _solve(activation, np.asarray(square_root((w + w.T) / 2)))

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


def _solve(activation: str, u: np.ndarray) -> Problem | None:
    """Minimise f by Newton's method; None where f has no minimiser with μ > 0."""
    newton, curvature = _newton(activation)
    z = jnp.zeros(len(u))
    for _ in range(100):
        z_next = newton(z, u)
        if not jnp.all(jnp.isfinite(z_next)):
            return None
        moved = float(jnp.abs(z_next - z).max())
        z = z_next
        if moved < 1e-14 * max(1.0, float(jnp.abs(z).max())):
            break
    residual = float(jnp.abs(z - gradient_step(activation, u)(z)).max())
    eigenvalues = np.linalg.eigvalsh(curvature(z, u))
    if residual > 1e-12 * max(1.0, float(jnp.abs(z).max())) or eigenvalues[0] <= 0:
        return None
    return Problem(activation, u, np.asarray(z), eigenvalues[0], eigenvalues[-1])


@functools.cache
def _newton(activation: str) -> tuple:
    """Return jitted (z, U) -> next z, and (z, U) -> Hessian."""
    phi, _ = activation_pair(activation)
    slope = jax.vmap(jax.grad(phi))

    def curvature(z: jax.Array, u: jax.Array) -> jax.Array:
        at, beside = slope(u @ z), slope(u @ z + 1e-9)
        return jnp.eye(len(z)) - (u * jnp.maximum(at, beside)[None, :]) @ u

    def newton(z: jax.Array, u: jax.Array) -> jax.Array:
        gradient = z - gradient_step(activation, u)(z)
        z = z - jnp.linalg.solve(curvature(z, u), gradient)
        # Constant but for rounding, which may lead past a saddle to another minimum.
        return jnp.full_like(z, z.mean())

    return jax.jit(newton), jax.jit(curvature)
