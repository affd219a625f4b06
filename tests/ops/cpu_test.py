"""Every form against XLA's own convolution and its derived gradient, in float64."""

import functools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optnet_jax import networks
from optnet_jax.ops import cpu as cpu_convolution
from optnet_jax.ops import pooling
from optnet_jax.training.steps import StepOptions, create_state, train_step

SHAPES = [
    pytest.param(1, 6, 5, 3, id="1x1"),
    pytest.param(1, 9, 5, 2, id="1x1 to few"),
    pytest.param(3, 6, 16, 16, id="few channels, in pairs"),
    pytest.param(3, 7, 16, 16, id="odd width"),
    pytest.param(3, 6, 4, 12, id="to more"),
    pytest.param(3, 6, 9, 2, id="to few"),
    pytest.param(3, 8, 32, 32, id="direct"),
    pytest.param(5, 6, 3, 3, id="5x5"),
]


def _operands(size, width, channels, features):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 5, width, channels), jnp.float64)
    w = jax.random.normal(keys[1], (size, size, channels, features), jnp.float64)
    return x, w, jax.random.normal(keys[2], (2, 5, width, features), jnp.float64)


@pytest.mark.parametrize("on", [False, True])
def test_pairs_are_for_xlas_own_library(monkeypatch, on):
    monkeypatch.setattr(cpu_convolution, "onednn_is_on", lambda: on)
    x, w = jnp.zeros((1, 4, 6, 16)), jnp.zeros((3, 3, 16, 16))
    form = functools.partial(cpu_convolution.convolution)  # traced anew each time
    text = str(jax.make_jaxpr(form)(x, w))
    assert ("window_strides=(1, 2)" in text) is not on


@pytest.mark.parametrize(("size", "width", "channels", "features"), SHAPES)
def test_all_forms_are_one_convolution(float64, size, width, channels, features):
    x, w, dy = _operands(size, width, channels, features)
    y, vjp = jax.vjp(cpu_convolution.direct, x, w)
    np.testing.assert_allclose(cpu_convolution.convolution(x, w), y, atol=1e-11)
    ours = cpu_convolution.kernel_gradient(x, dy, w.shape)
    np.testing.assert_allclose(ours, vjp(dy)[1], atol=1e-11)


def _operations(function, *operands):
    return [eqn.primitive.name for eqn in jax.make_jaxpr(function)(*operands).eqns]


def test_the_forms_are_chosen_by_their_channels(float64):
    few, w, _ = _operands(3, 6, 16, 16)
    assert "concatenate" in _operations(cpu_convolution.convolution, few, w)
    many, w, _ = _operands(3, 6, 32, 32)
    assert _operations(cpu_convolution.convolution, many, w) == ["conv_general_dilated"]


def test_a_kept_gradient_is_the_identitys(float64):
    x, g = np.random.default_rng(0).normal(size=(2, 3, 4))
    value, transpose = jax.vjp(cpu_convolution.kept_gradient, x)
    np.testing.assert_array_equal(value, x)
    np.testing.assert_array_equal(transpose(g)[0], g)
    moved = jax.jvp(cpu_convolution.kept_gradient, (x,), (g,))[1]
    np.testing.assert_array_equal(moved, g)


NETWORKS = {
    "hb_net": {"stage_sizes": (1, 1, 1)},
    "agd_net": {"stage_sizes": (2, 2), "growth_rate": 4, "bottleneck": True},
}


COSTLY = r"stablehlo\.(convolution|dot_general|reduce_window|while|concatenate|pad)\b"


def _costly(name, platform):
    """Return what a training step computes on a platform, which need not be there."""
    network = networks.create(name, **NETWORKS[name])
    optimizer = optax.sgd(0.1)
    state = jax.eval_shape(
        lambda key: create_state(network, optimizer, key, (8, 8, 3)), jax.random.key(0)
    )
    step = functools.partial(
        train_step, module=network, optimizer=optimizer, options=StepOptions()
    )
    images = jax.ShapeDtypeStruct((256, 8, 8, 3), jnp.float32)
    batch = {"image": images, "label": jax.ShapeDtypeStruct((256,), jnp.int32)}
    traced = jax.jit(step).trace(state, batch, jax.random.key(0))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    return Counter(re.findall(rf"{COSTLY}.*-> (.*)", text))


def _derived_kernel_gradient(x, dy, shape, precision=None):
    w = jnp.zeros(shape, x.dtype)
    derived = functools.partial(cpu_convolution.direct, precision=precision)
    return jax.vjp(lambda w: derived(x, w), w)[1](dy)[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_for_a_gpu_has_none_of_the_forms(monkeypatch, name):
    """It is the same without them, whereas a CPU's is not."""
    before = {platform: _costly(name, platform) for platform in ("cpu", "cuda")}
    monkeypatch.setattr(cpu_convolution, "convolution", cpu_convolution.direct)
    monkeypatch.setattr(cpu_convolution, "kernel_gradient", _derived_kernel_gradient)
    monkeypatch.setattr(cpu_convolution, "_by_product", lambda g: g)
    monkeypatch.setattr(pooling, "_pool_first", pooling._pool_last)
    assert _costly(name, "cuda") == before["cuda"] != Counter()
    assert _costly(name, "cpu") != before["cpu"]
