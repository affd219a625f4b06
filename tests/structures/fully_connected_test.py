import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.structures import FullyConnected


def test_is_the_activation_of_a_square_linear_map():
    x = jax.random.normal(jax.random.key(0), (2, 3, 5))
    module = FullyConnected(jnp.tanh, use_bias=True)
    variables = module.init(jax.random.key(1), x)
    linear = variables["params"]["linear"]
    assert linear["kernel"].shape == (5, 5)
    assert linear["bias"].tolist() == [0] * 5
    expected = np.tanh(np.asarray(x) @ np.asarray(linear["kernel"]))
    np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-5)


def test_the_papers_form_has_no_bias():
    variables = FullyConnected().init(jax.random.key(1), jnp.ones(4))
    assert list(variables["params"]["linear"]) == ["kernel"]
