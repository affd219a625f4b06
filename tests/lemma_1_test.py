"""Lemma 1 and its companions of §4: optimisation is propagation, for every method.

One recurrence object runs with the operator of optimisation, z ↦ z - ∇f(z), from
z_0 = U x_0, and with that of propagation, x ↦ Φ(Wx), from x_0; then z_k = U x_k.
"""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from optnet_jax.objectives import ACTIVATIONS, gradient_step, layer, square_root
from optnet_jax.recurrences import HistorySum, iterate, methods

SIZES = [(1, 20), (3, 1), (6, 25)]  # dimension, depth

MU = 0.01  # of the tuned methods
LITERAL_SUM = "history_sum"  # (13) as printed, over the whole history


@functools.cache
def both_trajectories(method, depth):
    """Return (W, U, x_0) → {activation: (U x_k, z_k)}, jitted where it is scanned."""
    if method == LITERAL_SUM:
        recurrence = HistorySum("nesterov", 1.0)
    else:
        recurrence = methods.find(method).recurrence(MU)

    def run(w, u, x0):
        def trajectory(operator, start):
            return iterate(recurrence, operator, start, depth, trajectory=True)

        return {
            name: (
                trajectory(layer(name, w), x0) @ u,
                trajectory(gradient_step(name, u), u @ x0),
            )
            for name in ACTIVATIONS
        }

    # Written out it takes far longer to compile than to run, operation by operation.
    return run if method == LITERAL_SUM else jax.jit(run)


@pytest.mark.parametrize(
    "method", [*(m.key for m in methods.METHODS if not m.adaptive), LITERAL_SUM]
)
@hypothesis.settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    size=st.sampled_from(SIZES),
    seed=st.integers(0, 2**32 - 1),
    smallest=st.floats(1e-4, 0.9),
)
def test_lemma_1(method, float64, size, seed, smallest):
    dimension, depth = size
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(dimension, dimension)))[0]
    # Eigenvalues up to 1, so that the step size 1 suits every row of Table 1.
    w = (rotation * rng.uniform(smallest, 1, dimension)) @ rotation.T
    w = (w + w.T) / 2
    u = square_root(w)
    x0 = jnp.asarray(rng.normal(size=dimension))
    for name, (u_x, z) in both_trajectories(method, depth)(w, u, x0).items():
        difference = np.abs(u_x - z).max()
        assert difference <= 1e-12 * max(1, np.abs(z).max()), name
