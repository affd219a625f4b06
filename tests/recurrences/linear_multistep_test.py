import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.recurrences import HeavyBall, LinearMultistep, iterate


@pytest.mark.parametrize("k", [0.0, 1.0, -0.1, [0.2, -0.4, 0.7]])
def test_is_the_heavy_ball_whose_coefficients_sum_to_1(float64, k):
    x0 = np.random.default_rng(0).normal(size=4)
    ours = iterate(LinearMultistep(k), jnp.tanh, x0, 3, trajectory=True)
    tied = HeavyBall((1 - np.asarray(k)).tolist(), k)
    theirs = iterate(tied, jnp.tanh, x0, 3, trajectory=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-14)


def test_a_constant_state_stays_where_t_is_zero():
    """β1 + β2 = 1: what HB-Net's (1, -1) does not have."""
    x = iterate(LinearMultistep(0.3), jnp.zeros_like, jnp.ones(3), 7)
    np.testing.assert_allclose(x, 1.0, rtol=1e-6)
