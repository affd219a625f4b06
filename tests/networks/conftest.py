import jax
import numpy as np
import pytest


@pytest.fixture
def random_variables():
    """Return variables of which none is at a value that hides mistakes.

    They are drawn on the host: compiling an initialisation takes longer than most
    tests.
    """

    def draw(network, images):
        rng = np.random.default_rng(0)

        def leaf(path, shape):
            values = rng.normal(size=shape.shape)
            if path[-1].key in ("var", "scale", "alpha", "beta1"):
                values = 1 + 0.1 * np.abs(values)
            elif path[-1].key == "beta2":
                values = -1 - 0.1 * np.abs(values)
            else:
                values = 0.3 * values
            dtype = np.promote_types(shape.dtype, images.dtype)
            return jax.numpy.asarray(values, dtype)

        shapes = jax.eval_shape(network.init, jax.random.key(0), images)
        return jax.tree_util.tree_map_with_path(leaf, shapes)

    return draw
