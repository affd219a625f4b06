import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.networks import create
from optnet_jax.networks.activation import SReLU
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
@pytest.mark.parametrize("several", [False, True])
def test_every_relu_of_a_network_is_replaced(name, several, monkeypatch):
    """The named network with Φ := ReLU is the network as it always was."""
    fields, phi = SMALL[name], "tanh"
    if several:
        units = sum(fields["stage_sizes"])
        phi = ("tanh", "swish", "tanh", "swish")[:units]
        fields = fields | ({"post_activation": False} if name == "resnet" else {})
    network = create(name, **fields, activation=phi)
    usual = create(name, **fields)
    variables = usual.init(jax.random.key(1), IMAGES)
    same = jax.tree.structure(network.init(jax.random.key(1), IMAGES))
    assert same == jax.tree.structure(variables)
    other = network.apply(variables, IMAGES)
    wanted = usual.apply(variables, IMAGES)
    assert not np.allclose(other, wanted, atol=1e-3)
    for known in ("tanh", "swish"):
        monkeypatch.setitem(ACTIVATIONS, known, (jax.nn.relu, None))
    found = create(name, **fields, activation=phi).apply(variables, IMAGES)
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


_one_stage = {"stage_sizes": (3,), "widths": (4,)}
_two_stages = {"stage_sizes": (2, 3), "num_classes": 2}
_vit = {"depth": 2, "width": 8, "heads": 2, "patch_size": 4}
LEARNED = {
    "hb_net": (
        {**_two_stages, "widths": (4, 8), "activation": "srelu relu relu srelu tanh"},
        "stem_norm_activation stage_0/propagation/layer_0/transform/norm_0_activation "
        "stage_1/propagation/layer_0/transform/norm_0_activation",
    ),
    "agd_net": (
        {**_two_stages, "growth_rate": 4, "activation": "relu srelu tanh srelu srelu"},
        "stage_0/layer_1/norm_activation transition_0/norm_activation norm_activation "
        "stage_1/layer_1/norm_activation stage_1/layer_2/norm_activation",
    ),
    "vit": (
        {**_vit, "activation": "srelu gelu"},
        "encoder/layer_0/transform/branches_1/activation",
    ),
    "yurii_vit": (
        {**_vit, "activation": "relu srelu"},
        "encoder/layer_1/transform_1/branches_0/activation",
    ),
    "lenet5": (
        {"widths": (4,), "hidden": (8, 8), "activation": "relu srelu tanh"},
        "dense_activation_0",
    ),
    "vgg16": (
        {"stage_sizes": (2,), "widths": (4,), "hidden": (8,)}
        | {"activation": "relu srelu srelu"},
        "activation_0_1 dense_activation_0",
    ),
}


@pytest.mark.parametrize("name", LEARNED)
def test_each_unit_has_the_activation_of_its_place(name):
    fields, where = LEARNED[name]
    fields = {**fields, "activation": fields["activation"].split()}
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    params = jax.eval_shape(create(name, **fields).init, jax.random.key(0), images)
    found = {
        "/".join(key.key for key in path[1:-1])
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "a_l"
    }
    assert found == set(where.split())


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("hb_net56", {"activation": ("relu",)}, "1 names, and the network 27 units: "),
        ("agd_net", {"activation": ("relu",) * 35}, "35 names, .* 36 units: .* srelu"),
        ("vit", {"activation": ["gelu"]}, "1 names, and the network 12 layers"),
        ("lenet5", {"activation": ["tanh"] * 5}, "5 names, and the network 4 layers"),
        ("vgg16", {"activation": ()}, "0 names, and the network 15 layers"),
        ("hb_net", {"activation": ("relu", "selu")}, "has 'selu': each is unknown"),
        ("hb_net", {"activation": 3}, "must be a tuple or text"),
        ("hb_net", {**_one_stage, "tied": True}, "neither tied, scanned nor rev"),
        ("hb_net", {**_one_stage, "unroll": False}, "neither tied, scanned"),
        ("hb_net", {**_one_stage, "reversible": True}, "neither tied, scanned"),
        ("resnet", {"stage_sizes": (1, 2), "widths": (4, 8)}, "one activation .* set"),
        (
            "resnet",
            {"activation": "srelu"},
            "without parameters, .*srelu: set post_act",
        ),
        (
            "hb_net",
            {"block": "pre_activation", "unit_relu": True, "activation": "tanh"},
            "leave out unit_relu",
        ),
        ("vit", {"depth": 3, "tied": True}, "relu, tanh, swish, so they are neither"),
    ],
)
def test_what_cannot_be_activated_is_one_line(name, fields, message):
    fields = {"activation": ("relu", "tanh", "swish"), **fields}
    with pytest.raises(InputError, match=message) as caught:
        create(name, **fields)
    assert "\n" not in str(caught.value)
