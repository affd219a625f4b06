"""A vision transformer's names and numbers, in torch's layout and in NumPy."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.networks import create
from optnet_jax.recurrences import TripleMomentum
from optnet_jax.weights import torchvision

FIELDS = {"depth": 2, "width": 8, "heads": 2, "patch_size": 4, "num_classes": 5}
LAYER = "encoder.layers.encoder_layer_"
erf = np.vectorize(math.erf)


def synthetic_state(side=8, depth=2, width=8, patch=4, classes=5, mlp=32):
    """A state dict with the names and shapes of torchvision's VisionTransformer."""
    shapes = {
        "class_token": (1, 1, width),
        "conv_proj.weight": (width, 3, patch, patch),
        "conv_proj.bias": (width,),
        "encoder.pos_embedding": (1, (side // patch) ** 2 + 1, width),
        "encoder.ln.weight": (width,),
        "encoder.ln.bias": (width,),
        "heads.head.weight": (classes, width),
        "heads.head.bias": (classes,),
    }
    for k in range(depth):
        for name, shape in {
            "ln_1.weight": (width,),
            "ln_1.bias": (width,),
            "self_attention.in_proj_weight": (3 * width, width),
            "self_attention.in_proj_bias": (3 * width,),
            "self_attention.out_proj.weight": (width, width),
            "self_attention.out_proj.bias": (width,),
            "ln_2.weight": (width,),
            "ln_2.bias": (width,),
            "mlp.0.weight": (mlp, width),
            "mlp.0.bias": (mlp,),
            "mlp.3.weight": (width, mlp),
            "mlp.3.bias": (width,),
        }.items():
            shapes[f"{LAYER}{k}.{name}"] = shape
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def linear(x, state, name, dot="."):
    return x @ state[f"{name}{dot}weight"].T + state[f"{name}{dot}bias"]


def norm(x, state, name):
    centred = x - x.mean(-1, keepdims=True)
    std = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return centred / std * state[f"{name}.weight"] + state[f"{name}.bias"]


def forward(state, images, heads=2, patch=4):
    """torchvision's forward pass of images [B, C, H, W]."""
    state = {name: value.astype(float) for name, value in state.items()}
    b, c, h, w = images.shape
    tiles = images.reshape(b, c, h // patch, patch, w // patch, patch)
    tiles = tiles.transpose(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch**2)
    kernel = state["conv_proj.weight"]
    x = tiles @ kernel.reshape(len(kernel), -1).T + state["conv_proj.bias"]
    token = np.repeat(state["class_token"], b, 0)
    x = np.concatenate([token, x], 1) + state["encoder.pos_embedding"]
    n, d = x.shape[1:]
    for k in range(sum(name.endswith("ln_1.bias") for name in state)):
        name = f"{LAYER}{k}."
        y = norm(x, state, f"{name}ln_1")
        y = linear(y, state, f"{name}self_attention.in_proj", "_")
        q, k_, v = y.reshape(b, n, 3, heads, d // heads).transpose(2, 0, 3, 1, 4)
        scores = np.exp(q @ k_.swapaxes(2, 3) / math.sqrt(d // heads))
        y = scores / scores.sum(-1, keepdims=True) @ v
        y = y.transpose(0, 2, 1, 3).reshape(b, n, d)
        x = x + linear(y, state, f"{name}self_attention.out_proj")
        y = linear(norm(x, state, f"{name}ln_2"), state, f"{name}mlp.0")
        y = y * (1 + erf(y / math.sqrt(2))) / 2
        x = x + linear(y, state, f"{name}mlp.3")
    return linear(norm(x, state, "encoder.ln")[:, 0], state, "heads.head")


@pytest.mark.parametrize(
    "fields", [{}, {"unroll": False}, {"splitting": "in_turn", "recurrence": "gd"}]
)
def test_logits_are_torchs_and_the_weights_come_back(fields):
    state = synthetic_state()
    network = create("vit", **FIELDS, **fields)
    variables = torchvision.import_state_dict(network, state)
    images = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    logits = jax.jit(network.apply)(
        variables, jnp.asarray(images.transpose(0, 2, 3, 1))
    )
    np.testing.assert_allclose(logits, forward(state, images), rtol=1e-4, atol=1e-4)
    exported = torchvision.export_state_dict(network, variables)
    assert exported.keys() == state.keys()
    for name, value in exported.items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)


@pytest.mark.parametrize("sides", [(4, 8), (1, 2), (1, 4), (2, 2), (1, 1)])
def test_images_need_not_be_square(sides):
    network = create("vit", **FIELDS | {"patch_size": 10})  # 224 is no multiple of it
    images = jnp.ones((1, *(10 * side for side in sides), 3))
    variables = network.init(jax.random.key(0), images)
    state = torchvision.export_state_dict(network, variables)
    assert state["encoder.pos_embedding"].shape[1] == math.prod(sides) + 1
    again = torchvision.import_state_dict(network, state)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    del state["encoder.pos_embedding"]
    with pytest.raises(InputError, match=r"fit: missing encoder\.pos_embedding: give"):
        torchvision.import_state_dict(network, state)


def test_other_methods_start_from_the_same_weights():
    network = create("vit", **FIELDS, recurrence=TripleMomentum(), learned=("beta",))
    variables = torchvision.import_state_dict(network, synthetic_state())
    encoder: Any = variables["params"]["encoder"]
    np.testing.assert_allclose(encoder["beta"], [0.3, 0.3])
    assert "beta" not in str(torchvision.export_state_dict(network, variables).keys())


def test_the_first_files_and_what_does_not_fit():
    state = synthetic_state()
    network = create("vit", **FIELDS)
    first = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v
        for name, v in state.items()
    }
    jax.tree.map(
        np.testing.assert_array_equal,
        torchvision.import_state_dict(network, first),
        torchvision.import_state_dict(network, state),
    )
    del state[f"{LAYER}1.self_attention.in_proj_bias"]
    with pytest.raises(
        InputError, match="missing .*_1.self_attention.in_proj.key.bias"
    ):
        torchvision.import_state_dict(network, state)


def test_vit_base16_has_the_names_of_vit_b_16():
    network = create("vit_base16")
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    zeros = jax.tree.map(lambda s: np.broadcast_to(np.float32(0), s.shape), shapes)
    found = torchvision.export_state_dict(network, zeros)
    expected = synthetic_state(224, 1, 768, 16, 1000, 3072)
    assert len(found) == 152
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
