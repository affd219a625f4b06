import jax.numpy as jnp
import numpy as np

from optnet_jax.recurrences import GradientDescent, iterate


def test_is_repeated_application():
    x = iterate(GradientDescent(), jnp.cos, jnp.array([0.3, 2.0]), 3)
    np.testing.assert_allclose(x, np.cos(np.cos(np.cos([0.3, 2.0]))), rtol=1e-6)


def test_finds_a_minimiser(float64):
    """(1) on a quadratic with minimiser b."""
    a, b = jnp.array([[0.5, 0.1], [0.1, 0.4]]), jnp.array([1.0, -2.0])
    x = iterate(GradientDescent(), lambda z: z - a @ (z - b), jnp.zeros(2), 100)
    np.testing.assert_allclose(x, b, atol=1e-12)
