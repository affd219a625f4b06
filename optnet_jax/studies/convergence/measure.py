"""How fast each method, and so each tied network, reaches the minimiser of F (§5.1).

By Lemma 1 a depth is a number of iterations, so "layers needed for ε" is measured by
minimising f of (8) with a chosen condition number κ = L/μ. Theory, for the step size 1
and L ≤ 1: gradient descent contracts by 1 - μ a step, the heavy ball with
β = (1 - √μ)² and Nesterov's method with β = (1 - √μ)/(1 + √μ) by 1 - √μ: hence
O(κ log 1/ε) against O(√κ log 1/ε) layers.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.objectives import gradient_step, layer, objective
from optnet_jax.recurrences import Recurrence, iterate
from optnet_jax.studies.convergence.minimiser import Problem


@dataclasses.dataclass(frozen=True)
class Convergence:
    """What one method did on one problem.

    Attributes:
      distance: ‖x_k - x*‖ / ‖x_0 - x*‖. [depth + 1]
      gap: (F(x_k) - F*) / (F(x_0) - F*), at least 0. [depth + 1]
      fitted_rate: the contraction of the distance in one step, fitted over the layers
        that bring it from 1e-2 to 1e-8; NaN where fewer than three do.
      theoretical_rate: what theory says, or None.
    """

    distance: np.ndarray
    gap: np.ndarray
    fitted_rate: float
    theoretical_rate: float | None

    def layers_needed(self, epsilon: float) -> int | None:
        """Return the depth from which on the distance stays below epsilon, or None.

        Args:
          epsilon: the accuracy, relative to the distance at the start.
        """
        above = np.flatnonzero(~(self.distance <= epsilon))
        if not len(above):
            return 0
        first = int(above[-1]) + 1
        return first if first < len(self.distance) else None


Results = dict[str, dict[str, dict[float, Convergence]]]
"""activation -> method -> κ -> what happened."""


def measure(
    recurrence: Recurrence,
    problem: Problem,
    depth: int,
    *,
    seed: int = 0,
    radius: float = 1e-2,
    theoretical_rate: float | None = None,
) -> Convergence:
    """Minimise the problem with a recurrence and record how it converges.

    Args:
      recurrence: any recurrence, a user's own included.
      problem: what to minimise.
      depth: the number of layers.
      seed: of the start's direction from the minimiser.
      radius: ‖z_0 - z*‖; small, so that the rates are those of the Hessian at z*.
      theoretical_rate: kept beside the fitted one.
    """
    direction = np.random.default_rng(seed).normal(size=len(problem.minimiser))
    z0 = problem.minimiser + radius * direction / np.linalg.norm(direction)
    run = _trajectory(recurrence, problem.activation, depth)
    zs, values, least = run(problem.u, z0, problem.minimiser)
    # x = U⁻¹ z: the distance is that of the network's own iterates.
    xs = np.linalg.solve(problem.u, (np.asarray(zs) - problem.minimiser).T)
    distance = np.linalg.norm(xs, axis=0)
    gap = np.maximum(np.asarray(values - least), 0)
    distance, gap = distance / distance[0], gap / gap[0]
    return Convergence(distance, gap, _fit_rate(distance), theoretical_rate)


@functools.lru_cache(maxsize=256)
def _trajectory(recurrence: Recurrence, activation: str, depth: int) -> Callable:
    @jax.jit
    def run(u: jax.Array, z0: jax.Array, minimiser: jax.Array) -> tuple:
        step = gradient_step(activation, u)
        zs = iterate(recurrence, step, z0, depth, trajectory=True)
        f = objective(activation, u)
        return zs, f(zs), f(minimiser)

    return run


def _fit_rate(distance: np.ndarray) -> float:
    log = np.log(np.maximum(distance, 1e-300))
    # Rounding leaves about 1e-10 of the distance at a condition number of 1000.
    inside = np.flatnonzero((distance < 1e-2) & (distance > 1e-8))
    if len(inside) < 3:
        return math.nan
    # Momentum makes the distance oscillate: a line through all of it, not two points.
    slope = np.polyfit(inside, log[inside], 1)[0]
    return float(np.exp(slope))


def fit_exponent(conditions: Sequence[float], layers: Sequence[int | None]) -> float:
    """Return p of layers ∝ κ^p: 1 for gradient descent, ½ for accelerated methods.

    Args:
      conditions: κ, at least two different ones.
      layers: the layers needed at each; None where the depth did not suffice.

    Returns:
      The slope in logarithms over the conditions that have a number, or NaN with fewer
      than two.
    """
    points = [
        (math.log(k), math.log(n))
        for k, n in zip(conditions, layers, strict=True)
        if n is not None and n > 0
    ]
    if len(points) < 2:
        return math.nan
    log_condition, log_layers = np.array(points).T
    return float(np.polyfit(log_condition, log_layers, 1)[0])


def duality_check(problem: Problem, recurrence: Recurrence, depth: int) -> float:
    """Return max |U x_k - z_k| / max(1, |z_k|) of tied network and method (Lemma 1).

    Relative, because from a start as far away as this one's a problem that is convex
    near its minimiser only may send the iterates off.

    Args:
      problem: what to minimise.
      recurrence: any recurrence.
      depth: the number of layers.
    """
    u = jnp.asarray(problem.u)
    x0 = jnp.linspace(-1, 1, len(problem.minimiser))
    zs = iterate(
        recurrence, gradient_step(problem.activation, u), u @ x0, depth, trajectory=True
    )
    xs = iterate(
        recurrence, layer(problem.activation, u @ u), x0, depth, trajectory=True
    )
    return float(jnp.abs(xs @ u - zs).max() / max(1.0, float(jnp.abs(zs).max())))
