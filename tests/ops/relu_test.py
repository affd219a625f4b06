import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.ops.relu import relu


def test_value_and_gradient_are_those_of_jax():
    x = jnp.array([-2.0, -0.0, 0.0, 1e-30, 3.0, jnp.nan, jnp.inf, -jnp.inf])
    np.testing.assert_array_equal(relu(x), jax.nn.relu(x))
    ours, theirs = (jax.grad(lambda x, f=f: f(x).sum())(x) for f in (relu, jax.nn.relu))
    np.testing.assert_array_equal(ours, theirs)
