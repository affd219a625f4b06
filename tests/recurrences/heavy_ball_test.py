import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.recurrences import (
    HeavyBall,
    heavy_ball,
    iterate,
    momentum_residual,
)


def literal(transforms, x0, beta1, beta2):
    """(16), as printed."""
    xs = [x0, x0]  # x_{-1}, x_0
    for t, b1, b2 in zip(transforms, beta1, beta2, strict=True):
        xs.append(t(xs[-1]) + b1 * xs[-1] + b2 * xs[-2])
    return np.array(xs[1:])


def test_is_equation_16_with_a_coefficient_for_each_step(float64):
    rng = np.random.default_rng(0)
    beta1, beta2 = rng.normal(size=(2, 6)) / 2
    x0 = rng.normal(size=3)
    ours = iterate(HeavyBall(beta1, beta2), jnp.tanh, x0, 6, trajectory=True)
    expected = literal([np.tanh] * 6, x0, beta1, beta2)
    np.testing.assert_allclose(ours, expected, atol=1e-14)


def test_the_form_of_equation_11():
    assert heavy_ball(0.3) == HeavyBall(0.3, -0.3)
    assert heavy_ball([0.1, 0.2]) == HeavyBall((0.1, 0.2), (-0.1, -0.2))
    assert HeavyBall() == heavy_ball(0.3)


def test_hb_net_coefficients_have_period_six():
    """T = 0: x_{k+1} = x_k - x_{k-1} turns by π/3 a step; nothing grows or fades."""
    recurrence = HeavyBall(1, -1)
    c = {"beta1": 1.0, "beta2": -1.0}
    state = recurrence.restart(2.0, 5.0)
    xs = []
    for _ in range(6):
        state = recurrence.step(lambda x: 0 * x, state, c)
        xs.append(state[0])
    assert xs == [-3.0, -5.0, -2.0, 3.0, 5.0, 2.0]


def test_post_activation_applies_to_the_sum():
    recurrence = HeavyBall(1, 0, post_activation=lambda x: jnp.maximum(x, 0))
    x = iterate(recurrence, lambda x: -3 * x, jnp.array([1.0, -1.0]), 1)
    np.testing.assert_array_equal(x, [0.0, 2.0])


def test_wrong_number_of_coefficients():
    with pytest.raises(
        InputError, match=r"beta1 .* each of the 3 steps, got shape \(2,"
    ):
        HeavyBall([1, 2], 0).coefficients(3)


def test_momentum_residual_network_is_its_authors_form_with_a_velocity(float64):
    x = x0 = np.random.default_rng(2).normal(size=4)
    v = np.zeros(4)
    for _ in range(8):
        v = 0.7 * v + 0.3 * np.tanh(x)
        x = x + v
    ours = iterate(momentum_residual(0.7), jnp.tanh, x0, 8)
    np.testing.assert_allclose(ours, x, atol=1e-13)
    assert momentum_residual(0.0).coefficients(1)["beta1"] == 1.0
