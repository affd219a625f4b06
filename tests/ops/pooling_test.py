import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.ops.pooling import _pool_last, max_pool, mean_pooled_product


def _assert_equal(ours, reference, *arguments):
    y, vjp = jax.vjp(ours, *arguments)
    expected, expected_vjp = jax.vjp(reference, *arguments)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    dy = jax.random.normal(jax.random.key(9), y.shape, y.dtype)
    for a, b in zip(vjp(dy), expected_vjp(dy), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("size", [(8, 8), (7, 6), (1, 5)])
def test_max_pool_takes_the_largest_of_nine(size):
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    pooled = np.asarray(max_pool(x))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    assert pooled.shape == (2, (size[0] + 1) // 2, (size[1] + 1) // 2, 3)
    for i, j in np.ndindex(pooled.shape[1:3]):
        window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        np.testing.assert_array_equal(pooled[:, i, j], window.max((1, 2)))


@pytest.mark.parametrize("size", [(8, 8), (7, 6)])
def test_pooling_commutes_with_a_1x1_convolution(float64, size):
    x = jax.random.normal(jax.random.key(0), (2, *size, 6), jnp.float64)
    kernel = jax.random.normal(jax.random.key(1), (1, 1, 6, 4), jnp.float64)
    _assert_equal(mean_pooled_product, _pool_last, x, kernel)
