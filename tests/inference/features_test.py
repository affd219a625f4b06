import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax import networks
from optnet_jax.inference.features import iterates_and_layers
from optnet_jax.recurrences import GradientDescent, HeavyBall
from optnet_jax.structures import Propagation, unroll_layers

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
SMALL = {"stage_sizes": (3, 2), "widths": (4, 8)}


def features(network, variables):
    run = jax.jit(lambda v, x: iterates_and_layers(network, v, x))
    return run(variables, IMAGES)


def test_scanned_unrolled_and_reversible_stages_have_the_same_iterates():
    """One set of weights, three forms; written out, its layers can be followed."""
    scanned = networks.create("hb_net", **SMALL, unroll=False)
    variables = scanned.init(jax.random.key(0), IMAGES)
    found = features(scanned, variables)
    assert [name for name in found if name.startswith("stage_0")] == [
        f"stage_0/x_{k}" for k in range(4)
    ]
    reversible = networks.create("hb_net", **SMALL, reversible=True)
    unrolled = networks.create("hb_net", **SMALL, unroll=True)
    for network, own in (
        (reversible, variables),
        (unrolled, unroll_layers(variables)),
    ):
        other = features(network, own)
        assert other.keys() == found.keys()
        for name, value in other.items():
            np.testing.assert_allclose(value, found[name], atol=1e-5, err_msg=name)
    # (16) with (1, -1), from its own parts.
    x = [found[f"stage_0/x_{k}"] for k in range(4)]
    _, state = unrolled.apply(
        unroll_layers(variables), IMAGES, capture_intermediates=True
    )
    layers = state["intermediates"]["stage_0"]["propagation"]
    for k in range(3):
        transformed = layers[f"layer_{k}"]["transform"]["__call__"][0]
        expected = transformed + x[k] - x[max(k - 1, 0)]
        np.testing.assert_allclose(x[k + 1], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("hb_net", {**SMALL, "tied": True}),
        ("resnet", {"stage_sizes": (2, 1), "widths": (4, 8)}),
        ("agd_net", {"stage_sizes": (2, 1), "growth_rate": 4}),
        ("dmr_net", {"stage_sizes": (2, 1), "widths": (4, 8)}),
    ],
)
def test_what_the_classifier_sees_follows_from_the_last_iterates(name, fields):
    network = networks.create(name, **fields)
    variables = network.init(jax.random.key(0), IMAGES)
    found = features(network, variables)
    head = variables["params"]["head"]
    logits = found["penultimate"] @ head["kernel"] + head["bias"][None]
    expected = network.apply(variables, IMAGES)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(found["head"], expected, atol=1e-5)
    stages = [key for key in found if key.startswith("stage_1/x_")]
    assert stages == [f"stage_1/x_{k}" for k in range(len(stages))]
    if name == "agd_net":
        assert [found[key].shape[-1] for key in stages][1:] == [4]
        return
    # Of one path, x_K of the last stage; of two, their read-out.
    pooled = jnp.maximum(found[stages[-1]], 0).mean((1, 2))
    np.testing.assert_allclose(pooled, found["penultimate"], atol=1e-5)


def test_a_transformer_gives_its_tokens_after_each_layer_in_every_form():
    """In turn or together, scanned, written out or reversible."""
    fields = {"depth": 2, "width": 8, "heads": 2, "patch_size": 4}
    network = networks.create("vit", **fields, recurrence="leapfrog", unroll=False)
    variables = network.init(jax.random.key(0), IMAGES)
    found = features(network, variables)
    iterates = {f"encoder/x_{k}" for k in range(3)}
    assert found.keys() == iterates | {"stem", "norm", "penultimate", "head"}
    np.testing.assert_array_equal(found["penultimate"], found["norm"][:, 0])
    other = features(network.clone(reversible=True), variables)
    for name, value in other.items():
        np.testing.assert_allclose(value, found[name], atol=1e-5, err_msg=name)
    plain = networks.create("vit", **fields, splitting="in_turn")
    split = features(plain, plain.init(jax.random.key(0), IMAGES))
    assert split.keys() == found.keys()


class Trunk(nn.Module):
    """One part of a network, with two recurrences."""

    @nn.compact
    def __call__(self, x):
        x = Propagation(HeavyBall(1.0, 0.0), jnp.tanh, 3, name="first")(x)
        return Propagation(GradientDescent(), jnp.tanh, 1, name="second")(10 * x)


def test_two_recurrences_in_one_part_keep_their_own_iterates():
    network = nn.Sequential([Trunk(name="trunk"), Trunk(name="other")])
    found = features(network, {})
    iterates = (*(f"x_{k}" for k in range(4)), "second/x_0", "second/x_1")
    parts = ("layers_0", "layers_1")
    assert found.keys() == {*parts, *(f"{p}/{x}" for p in parts for x in iterates)}
    x = IMAGES
    for part in parts:
        for k in range(4):
            np.testing.assert_allclose(found[f"{part}/x_{k}"], x, rtol=1e-5)
            last, x = x, x + jnp.tanh(x)
        np.testing.assert_allclose(found[f"{part}/second/x_0"], 10 * last, rtol=1e-5)
        x = jnp.tanh(10 * last)
        np.testing.assert_allclose(found[f"{part}/second/x_1"], x, rtol=1e-5)


def test_a_network_without_stages_gives_its_parts():
    network = networks.create("lenet5", widths=(2,), hidden=(5,))
    variables = network.init(jax.random.key(0), IMAGES)
    found = features(network, variables)
    assert {name: value.shape for name, value in found.items()} == {
        "conv_0": (2, 4, 4, 2),
        "dense_0": (2, 5),
        "head": (2, 10),
        "penultimate": (2, 5),
    }
