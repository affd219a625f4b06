"""Names and numbers of state dicts; logits are in torchvision_logits_test.py."""

import functools
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax import networks
from optnet_jax.errors import InputError
from optnet_jax.networks import create
from optnet_jax.networks.units import BasicUnit
from optnet_jax.networks.zoo import agd_net, densenet, hb_net, plain, resnet
from optnet_jax.weights import torchvision

RES_SIZES, WIDTHS = (2, 3), (4, 6)
DENSE_SIZES, GROWTH = (2, 3), 4
CLASSES = 5
RES_FIELDS = {
    "stage_sizes": RES_SIZES,
    "widths": WIDTHS,
    "stem": "imagenet",
    "shortcut": "projection",
    "num_classes": CLASSES,
}
DENSE_FIELDS = {
    "stage_sizes": DENSE_SIZES,
    "growth_rate": GROWTH,
    "stem": "imagenet",
    "stem_features": 8,
    "bottleneck": True,
    "compression": 0.5,
    "num_classes": CLASSES,
}
DENSE = densenet(**DENSE_FIELDS)


def _variables(network):
    """Variables of zeros."""
    images = jnp.ones((1, 32, 32, 3))
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    return jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)


def _zeros(network):
    """A state dict of zeros."""
    return torchvision.export_state_dict(network, _variables(network))


def _random_state(network):
    """A state dict of random numbers, variances positive."""
    rng = np.random.default_rng(0)

    def draw(key, value):
        if key.endswith("num_batches_tracked"):
            return value
        if value.ndim == 4:
            std = np.sqrt(2 / (value.shape[0] * value.shape[2] * value.shape[3]))
            return rng.normal(0, std, value.shape).astype(np.float32)
        return rng.uniform(0.5, 1.5, value.shape).astype(np.float32)

    return {key: draw(key, value) for key, value in _zeros(network).items()}


@pytest.mark.parametrize(
    ("name", "entries", "some"),
    [
        (
            "resnet34",
            218,
            {
                "conv1.weight": (64, 3, 7, 7),
                "bn1.running_var": (64,),
                "layer1.2.bn2.weight": (64,),
                "layer2.0.conv1.weight": (128, 64, 3, 3),
                "layer3.0.downsample.0.weight": (256, 128, 1, 1),
                "layer3.0.downsample.1.bias": (256,),
                "layer4.2.conv2.weight": (512, 512, 3, 3),
                "fc.weight": (1000, 512),
            },
        ),
        (
            "agd_net121",
            727,
            {
                "features.conv0.weight": (64, 3, 7, 7),
                "features.norm0.bias": (64,),
                "features.denseblock4.denselayer16.norm1.running_mean": (992,),
                "features.denseblock1.denselayer1.conv2.weight": (32, 128, 3, 3),
                "features.transition3.conv.weight": (512, 1024, 1, 1),
                "features.norm5.weight": (1024,),
                "classifier.bias": (1000,),
            },
        ),
    ],
)
def test_names_and_shapes_are_torchvisions(name, entries, some):
    state = _zeros(create(name))
    assert len(state) == entries
    assert {key: state[key].shape for key in some} == some


@pytest.mark.parametrize(
    "network", [DENSE, resnet(**RES_FIELDS)], ids=["densenet", "resnet"]
)
def test_file_round_trip(tmp_path, network):
    state = _random_state(network)
    variables = torchvision.import_state_dict(network, state)
    torchvision.save(network, variables, tmp_path / "w.npz")
    again = torchvision.load(network, tmp_path / "w.npz")
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    exported = torchvision.export_state_dict(network, again)
    assert exported.keys() == state.keys()
    for key, value in exported.items():
        np.testing.assert_array_equal(value, state[key])


def test_scanned_and_unrolled_layers_get_the_same_weights():
    scanned, unrolled = (
        resnet(unroll=unroll, **RES_FIELDS) for unroll in (False, True)
    )
    state = _random_state(unrolled)
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    logits = [
        network.apply(torchvision.import_state_dict(network, state), images)
        for network in (scanned, unrolled)
    ]
    np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-5)
    assert np.ptp(logits[0]) > 1e-2


def test_start_of_agd_net_and_hb_net():
    state = _random_state(DENSE)
    agd = agd_net(**DENSE_FIELDS, beta=0.0)
    variables = torchvision.import_state_dict(agd, state)
    np.testing.assert_array_equal(variables["params"]["stage_1"]["alpha"], np.ones(6))
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    np.testing.assert_allclose(
        agd.apply(variables, images),
        DENSE.apply(torchvision.import_state_dict(DENSE, state), images),
        rtol=1e-5,
    )
    exported = torchvision.export_state_dict(agd, variables)
    assert exported.keys() == state.keys()  # without α

    hb = hb_net(learned=("beta2",), **RES_FIELDS)
    state = _random_state(hb)
    params = torchvision.import_state_dict(hb, state)["params"]
    propagation = params["stage_1"]["propagation"]
    np.testing.assert_array_equal(propagation["beta2"], [-1, -1])


def _first(key):
    return re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key)


PREFIXES = ("module.", "_orig_mod.", "_orig_mod.module.", "model.")


@pytest.mark.parametrize(
    "spelled", [_first, *(f"{prefix}{{}}".format for prefix in PREFIXES)]
)
def test_first_densenet_files_and_what_training_scripts_put_before_the_names(spelled):
    state = _random_state(DENSE)
    other = {
        spelled(key): value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm1.weight" not in other
    expected = torchvision.import_state_dict(DENSE, state)
    found = torchvision.import_state_dict(DENSE, other)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_two_spellings_of_one_name_are_refused():
    state = _random_state(DENSE)
    doubled = {**state, "module.classifier.bias": state["classifier.bias"]}
    with pytest.raises(InputError, match="two entries for classifier.bias"):
        torchvision.import_state_dict(DENSE, doubled)


def test_every_misfit_is_listed():
    state = _random_state(DENSE)
    del state["features.norm5.bias"], state["classifier.weight"]
    state["fc.weight"] = np.zeros((3, 3))
    state["features.conv0.weight"] = np.zeros((8, 3, 3, 3))
    with pytest.raises(InputError) as caught:
        torchvision.import_state_dict(DENSE, state)
    for part in (
        "missing features.norm5.bias",
        "missing classifier.weight",
        "extra fc.weight",
        "features.conv0.weight is (8, 3, 3, 3) instead of (8, 3, 7, 7)",
    ):
        assert part in str(caught.value)
    assert str(caught.value).count(";") == 3


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (create("resnet56"), "ImageNet's stem"),
        (create("lenet5"), "ImageNet's stem"),
        (resnet(tied=True, **RES_FIELDS), "use tied=False"),
        (DENSE.clone(block="dense"), "no weights for stage_"),
        (resnet(**RES_FIELDS | {"shortcut": "pad"}), 'pad": use shortcut="projection"'),
        (plain(stem="imagenet"), 'for shortcut="none": use shortcut="projection"'),
        (resnet(block="conv", **RES_FIELDS), 'use block="basic" or "bottleneck"'),
        (
            resnet(block="pre_activation", **RES_FIELDS),
            'for block="pre_activation": use block="basic" or "bottleneck"',
        ),
        (create("vit", pool="mean"), 'for pool="mean": use pool="token"'),
    ],
)
def test_networks_that_torchvision_has_not(network, message):
    with pytest.raises(InputError, match=message):
        torchvision.import_state_dict(network, {})
    with pytest.raises(InputError, match=message):
        torchvision.export_state_dict(network, {})


@pytest.mark.parametrize(
    ("network", "own"),
    [
        (resnet(**RES_FIELDS, activation="tanh"), "relu"),
        (DENSE.clone(activation=("relu", "relu", "elu", "relu", "relu")), "relu"),
        (create("vit", activation="relu"), "gelu"),
    ],
)
def test_another_activation_starts_from_weights_and_does_not_give_them(network, own):
    with pytest.raises(InputError, match=f'for activation="[a-z]*": use .*="{own}"$'):
        torchvision.export_state_dict(network, {})
    with pytest.raises(InputError, match="does not fit: missing"):
        torchvision.import_state_dict(network, {})


class Unit(BasicUnit):
    """One of one's own, with the same leaves."""


def test_blocks_whose_leaves_are_torchvisions():
    expected = _zeros(RESNET).keys()
    for block in ("basic", BasicUnit, Unit):
        assert _zeros(RESNET.clone(block=block)).keys() == expected


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_modules_parameters_are_taken(kind):
    torch = pytest.importorskip("torch")
    state = {  # what float32 and bfloat16 have alike
        name: array if array.dtype == np.int64 else array.astype(jnp.bfloat16)
        for name, array in _random_state(DENSE).items()
    }
    parameters = {
        name: torch.nn.Parameter(
            torch.from_numpy(array.astype(np.float32)).to(getattr(torch, kind))
        )
        for name, array in state.items()
    }
    found = torchvision.import_state_dict(DENSE, parameters)
    expected = torchvision.import_state_dict(DENSE, state)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_file_that_needs_torch(tmp_path, monkeypatch):
    (tmp_path / "w.pth").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="pip install torch"):
        torchvision.load(DENSE, tmp_path / "w.pth")


def test_pickled_code_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": functools.partial(print, "ran")}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="without running code"):
        torchvision.load(DENSE, tmp_path / "w.pth")


def test_weights_that_are_not_finite_are_refused():
    state = _random_state(DENSE)
    state["classifier.bias"][2] = np.nan
    with pytest.raises(InputError, match="classifier.bias has values that are not"):
        torchvision.import_state_dict(DENSE, state)


def test_a_network_of_other_parts_is_refused():
    network = networks.create("lenet5")
    variables = network.init(jax.random.key(0), jnp.ones((1, 28, 28, 1)))
    with pytest.raises(InputError, match="ImageNet's stem"):
        torchvision.export_state_dict(network, variables)


RESNET, SCANNED = (resnet(unroll=unroll, **RES_FIELDS) for unroll in (True, False))


@pytest.mark.parametrize(
    ("network", "changed", "misfit"),
    [
        (DENSE, {"num_classes": 7}, r"params/head/bias is \(7,\) instead of \(5,\)"),
        (RESNET, {"stage_sizes": (2, 4)}, "extra .*/stage_1/propagation/layer_2/"),
        (RESNET, {"stage_sizes": (2, 2)}, "missing .*/stage_1/propagation/layer_1/"),
        (DENSE, {"learned": ("alpha",)}, "extra params/stage_0/alpha"),
        (SCANNED, {"stage_sizes": (2, 5)}, r"is \(4, 6\) instead of \(2, 6\)"),
        (SCANNED, {"unroll": True}, "missing .* more"),
    ],
)
def test_variables_of_another_network_are_refused(network, changed, misfit):
    variables = _variables(network.clone(**changed))
    message = f"^the variables do not fit: .*{misfit}.*: give params and batch_stats"
    with pytest.raises(InputError, match=message):
        torchvision.export_state_dict(network, variables)


def test_not_all_of_the_variables_are_refused():
    variables = _variables(DENSE)
    params = {"params": variables["params"]}
    for part, missing in ((params, 26), (params["params"], 66)):
        message = f"missing batch_stats/.* and {missing - 4} more: give params and"
        with pytest.raises(InputError, match=message):
            torchvision.export_state_dict(DENSE, part)
    # Neither what is sown nor the coefficients, which the file does not hold.
    state = torchvision.export_state_dict(DENSE, {**variables, "intermediates": params})
    learned = DENSE.clone(learned=("alpha",))
    assert torchvision.export_state_dict(learned, variables).keys() == state.keys()
