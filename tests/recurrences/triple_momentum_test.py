import math

import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.recurrences import (
    GradientDescent,
    Nesterov,
    TripleMomentum,
    heavy_ball,
    iterate,
    triple_momentum,
)


@pytest.mark.parametrize(
    ("family", "member"),
    [
        (TripleMomentum(1, 0, 0, 0), GradientDescent()),
        (TripleMomentum(1, 0.3, 0, 0), heavy_ball(0.3)),
        (TripleMomentum(1, 0.3, 0.3, 0), Nesterov(1.3, -0.3)),
    ],
    ids=["(7)", "(11)", "(12)"],
)
def test_contains(float64, family, member):
    x0 = np.random.default_rng(0).normal(size=5)
    ours = iterate(family, jnp.tanh, x0, 12, trajectory=True)
    theirs = iterate(member, jnp.tanh, x0, 12, trajectory=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-13)


def test_is_the_authors_form_in_positions_and_velocities(float64):
    """x̃ = ξ + γ v, v ← β v + α (T(x̃) - x̃), ξ ← ξ + v."""
    method = TripleMomentum(1.2, 0.5, 0.4, 0.7)
    x0 = np.random.default_rng(1).normal(size=4)
    xi, v = x0, np.zeros(4)
    for _ in range(9):
        ahead = xi + 0.4 * v
        v = 0.5 * v + 1.2 * (np.sin(ahead) - ahead)
        xi = xi + v
    ours = iterate(method, jnp.sin, x0, 9)
    np.testing.assert_allclose(ours, xi + 0.7 * v, atol=1e-13)


def test_tuned_contracts_as_its_authors_prove(float64):
    """On a quadratic with eigenvalues in [μ, 1], ‖x_k - x*‖ ≤ C (1 - √μ)^k."""
    mu, depth = 0.01, 150
    eigenvalues = np.linspace(mu, 1, 20)
    x = iterate(
        triple_momentum(mu),
        lambda x: x - eigenvalues * x,
        np.ones(20),
        depth,
        trajectory=True,
    )
    errors = np.linalg.norm(x, axis=1)
    rate = (errors[depth] / errors[depth // 3]) ** (1 / (depth - depth // 3))
    assert rate < 1 - math.sqrt(mu) + 0.005
