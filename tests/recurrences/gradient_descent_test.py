import jax.numpy as jnp
import numpy as np

from optnet_jax.recurrences import GradientDescent, iterate


def test_is_repeated_application():
    x = iterate(GradientDescent(), jnp.cos, jnp.array([0.3, 2.0]), 3)
    np.testing.assert_allclose(x, np.cos(np.cos(np.cos([0.3, 2.0]))), rtol=1e-6)
