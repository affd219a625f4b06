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


@pytest.fixture
def run():
    """Return logits, statistics and gradient of a training pass, and evaluation."""

    def run(network, variables, images):
        def loss(params):
            logits, updated = network.apply(
                {**variables, "params": params},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            weights = jax.numpy.arange(1, logits.shape[-1] + 1)[None]
            return (logits**2 * weights).sum(), (logits, updated["batch_stats"])

        gradient, trained = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
        return *trained, gradient, jax.jit(network.apply)(variables, images)

    return run
