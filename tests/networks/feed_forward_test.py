import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.networks import create


def test_lenet5_is_the_independently_written_one(random_variables):
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 1))
    network = create("lenet5")
    params = random_variables(network, images)["params"]
    x = images
    for i, features in enumerate((6, 16)):
        conv = nn.Conv(features, (5, 5), padding="VALID")
        x = jnp.tanh(conv.apply({"params": params[f"conv_{i}"]}, x))
        x = (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
    x = x.reshape(2, 400)
    for i in range(2):
        dense = params[f"dense_{i}"]
        x = jnp.tanh(x @ dense["kernel"] + dense["bias"][None])
    x = x @ params["head"]["kernel"] + params["head"]["bias"][None]
    np.testing.assert_allclose(network.apply({"params": params}, images), x, atol=1e-5)


def test_vgg_dropout_acts_in_training_only(random_variables):
    network = create("vgg16", stage_sizes=(1,), widths=(4,), hidden=(64,))
    images = jax.random.normal(jax.random.key(1), (2, 4, 4, 3))
    variables = random_variables(network, images)
    evaluated = network.apply(variables, images)
    trained = [
        network.apply(
            variables, images, train=True, rngs={"dropout": jax.random.key(k)}
        )
        for k in (1, 2)
    ]
    assert not np.allclose(trained[0], trained[1])
    np.testing.assert_array_equal(evaluated, network.apply(variables, images))


@pytest.mark.parametrize(
    ("name", "fields", "shape", "message"),
    [
        ("lenet5", {}, (1, 8, 8, 1), "8x8 are smaller .* at least 16x16"),
        ("lenet5", {"activation": "selu"}, (1, 32, 32, 1), "use sigmoid or tanh"),
        ("vgg16", {}, (1, 31, 32, 3), "31x32 are smaller .* at least 32x32"),
        ("vgg16", {"widths": (4,)}, (1, 32, 32, 3), "one entry for each stage"),
        ("vgg16", {}, (32, 32, 3), "images must be"),
        ("vgg16", {"batch_norm_group": 2}, (1, 32, 32, 3), "nothing without BatchNorm"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(name, fields, shape, message):
    with pytest.raises(InputError, match=message):
        jax.eval_shape(create(name, **fields).init, jax.random.key(0), jnp.ones(shape))
