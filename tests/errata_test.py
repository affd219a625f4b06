"""What docs/errata.md says of the paper, computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.objectives import layer, objective
from optnet_jax.recurrences import (
    ADMM,
    HeavyBall,
    HistorySum,
    TwoPath,
    heavy_ball,
    iterate,
)


def test_halves_in_20_are_not_dmrnet(float64):
    """Table 3: (20) with α_t = β_t = ½ adds every earlier mean, DMRNet the last."""
    x_prime = x = x0 = np.linspace(-1, 1, 4)
    sums = np.zeros(4)
    for k in range(3):
        if k:  # the sums of (20) start at t = 1
            sums = sums + x_prime / 2 + x / 2
        x_prime, x = np.tanh(x_prime) + sums, np.sin(x) + sums
    operators = (jnp.tanh, jnp.sin)
    dmr_net = iterate(TwoPath(readout="x"), operators, jnp.asarray(x0), 3)
    assert np.abs(dmr_net - x).max() > 0.5
    half = (0, 0.5, 0.5)
    printed = TwoPath(half, half, memory=1, readout="x")
    np.testing.assert_allclose(iterate(printed, operators, jnp.asarray(x0), 3), x)


def test_the_two_paths_of_20_differ_by_t_alone_and_those_of_14_do_not(float64):
    """x'_{k+1} - x_{k+1} = T(x'_k) - T(x_k) in (20): its lines have the same sums."""
    starts = jnp.array([1.0, -0.5]), jnp.array([0.3, 0.7])

    def difference(recurrence):
        state = recurrence.init(starts)
        coefficients = recurrence.coefficients(3)
        for k in range(3):
            before = recurrence.iterates(state)
            c = {name: value[k] for name, value in coefficients.items()}
            state = recurrence.step(jnp.tanh, state, c)
        after = recurrence.iterates(state)
        return after[0] - after[1] - (jnp.tanh(before[0]) - jnp.tanh(before[1]))

    np.testing.assert_allclose(difference(TwoPath(0.3, -0.2, 1.0)), 0, atol=1e-15)
    assert np.abs(difference(ADMM())).max() > 1e-4


def test_the_heavy_ball_can_cycle_on_a_strongly_convex_function(float64):
    """μ = 1, L = 25, Polyak's own coefficients (Lessard, Recht, Packard 2016, §4.6)."""
    strong, smooth = 1.0, 25.0

    def gradient(x):
        pieces = [x < 1, x < 2]
        return jnp.select(pieces, [25 * x, x + 24], 25 * x - 24)

    rate = 4 / (np.sqrt(smooth) + np.sqrt(strong)) ** 2
    root = (np.sqrt(smooth) - np.sqrt(strong)) / (np.sqrt(smooth) + np.sqrt(strong))

    def transform(x):
        return x - rate * gradient(x)

    # On a quadratic function of the same μ and L these coefficients converge.
    xs = iterate(heavy_ball(root**2), transform, jnp.array(3.3), 600, trajectory=True)
    np.testing.assert_allclose(xs[-3:], xs[-6:-3], rtol=1e-12)
    assert np.ptp(xs[-3:]) > 1
    quadratic = iterate(
        heavy_ball(root**2), lambda x: x - rate * 25 * x, jnp.array(3.3), 600
    )
    assert abs(quadratic) < 1e-12


def test_ista_as_printed_minimises_half_the_square(float64):
    """§1.2: its fixed point for A = 1 is soft(y, α), not the minimiser soft(y, α/2)."""
    y, alpha = 2.0, 0.6
    grid = jnp.linspace(-3, 3, 600_001)
    printed = grid[jnp.argmin((grid - y) ** 2 + alpha * jnp.abs(grid))]
    halved = grid[jnp.argmin((grid - y) ** 2 / 2 + alpha * jnp.abs(grid))]

    def ista(x):
        v = x - (x - y)  # L = 1
        return jnp.sign(v) * jnp.maximum(jnp.abs(v) - alpha, 0)

    fixed = ista(ista(jnp.array(0.0)))
    assert fixed == pytest.approx(float(halved), abs=1e-4)
    assert fixed == pytest.approx(float(printed) - alpha / 2, abs=1e-4)


def test_f_is_unbounded_below_where_w_phi_prime_exceeds_1(float64):
    """Lemma 1 says "minimising"; for W = 2 I and ReLU, F(x) = -‖x‖² on x > 0."""
    f = objective("relu", jnp.sqrt(2.0) * jnp.eye(2))
    for size in (1.0, 10.0, 1e6):
        x = jnp.full(2, size)
        assert f(jnp.sqrt(2.0) * x) == pytest.approx(-2 * size**2)


def test_one_t_for_each_iterate_makes_18_a_resnet_not_a_densenet(float64):
    """α = 1, β = 0 and one T_j for each x_j: x_{k+1} = x_k + T_k(x_k) from x_1 on."""
    depth = 5
    weights = jax.random.normal(jax.random.key(0), (depth, 4, 4)) / 2
    x0 = jnp.linspace(-1, 1, 4)

    def transform(x, w):
        return jnp.tanh(w @ x)

    xs = iterate(HistorySum(), transform, x0, depth, weights=weights, trajectory=True)
    resnet = iterate(
        HeavyBall(1, 0), transform, xs[1], depth - 1, weights=weights[1:], trajectory=1
    )
    np.testing.assert_allclose(xs[1:], resnet, atol=1e-14)


def test_with_one_u_every_input_has_the_same_minimiser(float64):
    """§5.1: F of (8) does not hold x_0, so U must differ from sample to sample."""
    w = 0.9 * jnp.eye(3)
    starts = jnp.array([[5.0, -3.0, 0.1], [-4.0, 2.0, 8.0]])
    ends = iterate(HeavyBall(0.3, -0.3), layer("sigmoid", w), starts, 400)
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-12)
