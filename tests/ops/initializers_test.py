import jax
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.ops.initializers import he_normal, scaled_normal, xavier_normal


@pytest.mark.parametrize(
    "shape", [(3, 3, 5, 4), (1, 1, 16, 16), (7,), (1,), (3, np.int64(5))]
)
def test_scaled_normal_draws_the_numbers_of_jax_random_normal(shape):
    key = jax.random.key(3)
    np.testing.assert_array_equal(
        scaled_normal(key, shape, 0.5, np.float32), 0.5 * jax.random.normal(key, shape)
    )


def test_he_normal_equals_flax():
    flax_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
    key, shape = jax.random.key(1), (3, 3, 6, 4)
    np.testing.assert_allclose(he_normal(key, shape), flax_init(key, shape), rtol=1e-6)


def test_xavier_normal_has_glorots_variance():
    drawn = xavier_normal(jax.random.key(2), (300, 200))
    np.testing.assert_allclose(np.var(drawn), 2 / 500, rtol=0.03)
    assert abs(np.mean(drawn)) < 1e-3
