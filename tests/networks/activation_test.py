import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.networks import create
from optnet_jax.networks.activation import NAMES, SReLU
from optnet_jax.objectives import ACTIVATIONS

IMAGES = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
SMALL = {
    "hb_net": {"stage_sizes": (1, 2), "widths": (4, 8)},
    "resnet": {"stage_sizes": (2,), "widths": (4,)},
    "dmr_net": {"stage_sizes": (2,), "widths": (4,)},
    "agd_net": {"stage_sizes": (2, 2), "growth_rate": 4},
}


def test_srelu_has_three_straight_pieces_each_channel_its_own():
    x = jnp.stack([jnp.linspace(-3, 3, 13)] * 2, axis=-1)
    params = {
        "t_l": jnp.array([-1.0, 0.0]),
        "a_l": jnp.array([0.5, 0.2]),
        "t_r": jnp.array([1.0, 2.0]),
        "a_r": jnp.array([-0.25, 1.0]),
    }
    found = np.asarray(SReLU().apply({"params": params}, x))
    at, leaky = np.linspace(-3, 3, 13), np.linspace(-3, 3, 13)
    pieces = np.interp(at, [-3, -1, 1, 3], [-1 - 0.5 * 2, -1, 1, 1 - 0.25 * 2])
    np.testing.assert_allclose(found[:, 0], pieces, rtol=1e-6)
    expected = np.where(leaky < 0, 0.2 * leaky, leaky)
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-6)
    fresh = SReLU().init_with_output(jax.random.key(0), x)[0]
    np.testing.assert_allclose(fresh[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("phi", ["tanh", "swish"])
def test_every_relu_of_a_network_is_replaced(name, phi, monkeypatch):
    """The named network with Φ := ReLU is the network as it always was."""
    network = create(name, **SMALL[name], activation=phi)
    usual = create(name, **SMALL[name])
    variables = usual.init(jax.random.key(1), IMAGES)
    same = jax.tree.structure(network.init(jax.random.key(1), IMAGES))
    assert same == jax.tree.structure(variables)
    other = network.apply(variables, IMAGES)
    wanted = usual.apply(variables, IMAGES)
    assert not np.allclose(other, wanted, atol=1e-3)
    monkeypatch.setitem(ACTIVATIONS, phi, (jax.nn.relu, None))
    found = create(name, **SMALL[name], activation=phi).apply(variables, IMAGES)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["hb_net", "agd_net", "lenet5", "vgg16"])
def test_a_learned_activation_has_parameters_of_each_layer_with_a_gradient(name):
    fields = SMALL.get(name, {"hidden": (8,), "widths": (4, 4)})
    size = {"lenet5": 16}.get(name, 8)
    if name == "vgg16":
        fields = {**fields, "stage_sizes": (1, 1), "batch_norm": True}
    network = create(name, **fields, activation="srelu")
    images = jax.image.resize(IMAGES, (4, size, size, 3), "linear")
    variables = network.init(jax.random.key(1), images)

    def loss(params):
        return (network.apply({**variables, "params": params}, images) ** 2).sum()

    gradient = jax.grad(loss)(variables["params"])
    slopes = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
        if path[-1].key == "a_l"
    ]
    assert len(slopes) >= 3
    assert all(np.any(leaf) for leaf in slopes)


def test_what_a_learned_activation_cannot_follow():
    with pytest.raises(InputError, match="set post_activation=False"):
        create("resnet", activation="srelu")
    with pytest.raises(InputError, match="leave out unit_relu"):
        create("hb_net", block="pre_activation", unit_relu=True, activation="tanh")
    with pytest.raises(InputError, match="activation='selu'"):
        create("hb_net", activation="selu")
    assert set(ACTIVATIONS) < set(NAMES)
