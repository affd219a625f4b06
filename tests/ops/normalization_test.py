import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.ops.normalization import BatchNorm, Neighbours, batch_normalize

SHAPE = (6, 4, 3, 5)


def _setup(seed=0, shape=SHAPE, dtype=np.float64):
    rng = np.random.default_rng(seed)
    channels = shape[-1]
    x = (2 + 3 * rng.standard_normal(shape)).astype(dtype)
    params = {
        "scale": rng.standard_normal(channels),
        "bias": rng.standard_normal(channels),
    }
    stats = {"mean": rng.standard_normal(channels), "var": rng.uniform(1, 2, channels)}
    target = rng.standard_normal(shape)
    variables = {"params": params, "batch_stats": stats}
    return x, jax.tree.map(jnp.asarray, variables), target


def _loss_and_gradient(apply, x, variables, target):
    def loss(x, params):
        y, updated = apply({**variables, "params": params}, x)
        return jnp.sum(y * target), (y, updated)

    run = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, (y, updated)), gradients = jax.jit(run)(x, variables["params"])
    return y, updated, gradients


def _flax(relu, train, **fields):
    norm = nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, **fields
    )

    def apply(variables, x):
        y, updated = norm.apply(variables, x, mutable=["batch_stats"])
        return (nn.relu(y) if relu else y), updated

    return apply


def _assert_close(actual, expected, tolerance):
    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)

    jax.tree.map(close, actual, expected)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("shape", [SHAPE, (7, 5)])
def test_value_gradient_and_statistics_equal_flax(float64, relu, train, shape):
    x, variables, target = _setup(shape=shape)
    ours = BatchNorm(use_running_average=not train, relu=relu)
    apply = functools.partial(ours.apply, mutable=["batch_stats"])
    actual = _loss_and_gradient(apply, x, variables, target)
    expected = _loss_and_gradient(_flax(relu, train), x, variables, target)
    _assert_close(actual, expected, 1e-11)


def test_variables_are_those_of_flax():
    x = jnp.ones((2, 3))
    ours = BatchNorm(use_running_average=False).init(jax.random.key(0), x)
    theirs = nn.BatchNorm(use_running_average=False).init(jax.random.key(0), x)
    _assert_close(ours, theirs, 0)


def test_groups_normalise_alone_and_average_their_statistics(float64):
    x, variables, target = _setup()
    grouped = BatchNorm(use_running_average=False, relu=True, group_size=2)
    apply = functools.partial(grouped.apply, mutable=["batch_stats"])
    y, updated, (dx, dparams) = _loss_and_gradient(apply, x, variables, target)

    flax_apply = _flax(True, True)
    parts = [
        _loss_and_gradient(flax_apply, x[i : i + 2], variables, target[i : i + 2])
        for i in (0, 2, 4)
    ]
    ys, stats, gradients = zip(*parts, strict=True)
    _assert_close(y, jnp.concatenate(ys), 1e-11)
    _assert_close(updated, jax.tree.map(lambda *s: sum(s) / 3, *stats), 1e-11)
    _assert_close(dx, jnp.concatenate([g[0] for g in gradients]), 1e-11)
    summed = jax.tree.map(lambda *g: sum(g), *[g[1] for g in gradients])
    _assert_close(dparams, summed, 1e-11)


@pytest.mark.parametrize("groups", [1, 3])
def test_gradients_of_the_moments_are_those_of_their_definition(float64, groups):
    x, variables, weights = _setup()
    scale, bias = variables["params"].values()

    def ours(x):
        y, *moments = batch_normalize((x,), scale, bias, groups, 1e-5, True, x.dtype)
        return (y, *(jnp.broadcast_to(of, x.shape) for of in moments))

    def defined(x):
        split = jnp.split(x, groups)
        mean, var = (
            jnp.concatenate(
                [jnp.broadcast_to(of(part, (0, 1, 2)), part.shape) for part in split]
            )
            for of in (jnp.mean, jnp.var)
        )
        gain, shift = (jnp.broadcast_to(of, x.shape) for of in (scale, bias))
        return nn.relu((x - mean) / jnp.sqrt(var + 1e-5) * gain + shift), mean, var

    def loss(function, x):
        y, mean, var = function(x)
        return jnp.sum(weights * (y + mean * var))

    x = jnp.asarray(x)
    _assert_close(ours(x), defined(x), 1e-11)
    actual, expected = (jax.grad(loss, 1)(function, x) for function in (ours, defined))
    _assert_close(actual, expected, 1e-11)


@pytest.mark.parametrize("group_size", [None, 2])
def test_the_batch_is_never_split(group_size):
    """On a TPU each reshape of the activations is a copy of them."""
    x, variables, target = _setup(dtype=np.float32)
    norm = BatchNorm(use_running_average=False, group_size=group_size)

    def loss(x):
        return jnp.sum(norm.apply(variables, x, mutable=["batch_stats"])[0] * target)

    text = jax.jit(jax.grad(loss)).lower(x).as_text()
    shapes = re.findall(r"stablehlo\.reshape.* : \(tensor<([\dx]+)xf32>", text)
    sizes = [math.prod(map(int, shape.split("x"))) for shape in shapes]
    assert sizes
    assert max(sizes) <= x.shape[0] * x.shape[-1]


def test_group_that_does_not_divide_the_batch():
    norm = BatchNorm(use_running_average=False, group_size=4)
    x = jnp.ones((6, 3))
    variables = norm.init(jax.random.key(0), x)  # any batch initialises
    with pytest.raises(InputError, match="group_size 4 does not divide the batch of 6"):
        norm.apply(variables, x, mutable=["batch_stats"])


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("group_size", [None, 2])
def test_parts_are_their_concatenation(float64, relu, train, group_size):
    x, variables, target = _setup()
    norm = BatchNorm(use_running_average=not train, relu=relu, group_size=group_size)
    apply = functools.partial(norm.apply, mutable=["batch_stats"])

    def apply_to_parts(variables, x):
        return apply(variables, (x[..., :2], x[..., 2:3], x[..., 3:]))

    actual = _loss_and_gradient(apply_to_parts, x, variables, target)
    expected = _loss_and_gradient(apply, x, variables, target)
    _assert_close(actual, expected, 1e-12)


def test_neighbouring_parts_are_joined_once_for_all_layers():
    parts = tuple(jnp.full((2, 1 + i), i) for i in range(14))
    neighbours = Neighbours()
    pieces = [neighbours(parts[:count]) for count in (2, 5, 14)]
    assert [[x.shape[1] for x in of] for of in pieces] == [
        [1, 2],
        [6, 4, 5],
        [45, 33, 13, 14],
    ]
    assert neighbours(parts[:4])[0] is pieces[1][0]
    for of in pieces[1:]:
        whole = jnp.concatenate(of, 1)
        expected = jnp.concatenate(parts, 1)[:, : whole.shape[1]]
        np.testing.assert_array_equal(whole, expected)


@pytest.mark.parametrize("group_size", [None, 2])
def test_off_a_cpu_pieces_are_normalised_as_parts_are(float64, group_size, monkeypatch):
    x, variables, target = _setup()
    parts = [x[..., i : i + 1] for i in range(5)]
    norm = BatchNorm(False, True, group_size, neighbours=Neighbours())
    plain = BatchNorm(False, True, group_size)

    def run(norm):
        def both(variables, parts):
            fewer = jax.tree.map(lambda values: values[:4], variables)
            y, state = norm.apply(variables, parts, mutable=["batch_stats"])
            z, _ = norm.apply(fewer, parts[:4], mutable=["batch_stats"])
            return y.at[..., :4].multiply(z), state

        return _loss_and_gradient(both, parts, variables, target)

    expected = run(plain)
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *args, default, **_: default(*args)
    )
    _assert_close(run(norm), expected, 1e-12)


def test_moments_of_a_part_are_computed_once_for_all_who_normalise_it():
    a, b, c = (jnp.ones((8, 4, channels)) for channels in (3, 4, 5))
    norm = BatchNorm(use_running_average=False)
    pairs, triples = (norm.init(jax.random.key(0), x) for x in ((a, b), (a, b, c)))

    def both(a, b, c):
        one = norm.apply(pairs, (a, b), mutable=["batch_stats"])
        return one, norm.apply(triples, (a, b, c), mutable=["batch_stats"])

    text = jax.jit(both).lower(a, b, c).compile().as_text()
    assert text.count(" reduce(") == 2 * len((a, b, c))  # mean and mean square of each


def test_evaluation_ignores_groups_and_changes_no_state():
    norm = BatchNorm(use_running_average=True, group_size=4)
    x = jnp.ones((6, 3))
    variables = norm.init(jax.random.key(0), x)
    _, updated = norm.apply(variables, x, mutable=["batch_stats"])
    _assert_close(updated["batch_stats"], variables["batch_stats"], 0)


def test_statistics_of_bfloat16_input_are_float32():
    # bfloat16 has 8 bits: summed in it, the mean of 4096 values near 1 stops at 256.
    x = (1 + 0.1 * jax.random.normal(jax.random.key(0), (4096, 2))).astype(jnp.bfloat16)
    y, mean, var = batch_normalize(
        (x,), jnp.ones(2), jnp.zeros(2), 1, 1e-5, False, jnp.bfloat16
    )
    assert (y.dtype, mean.dtype, var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean[0], exact.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var[0], exact.var(0), rtol=1e-3)


def test_constant_channel_stays_finite():
    x = jnp.full((4, 2), 1e3)
    norm = BatchNorm(use_running_average=False)
    variables = norm.init(jax.random.key(0), x)

    def loss(x):
        return norm.apply(variables, x, mutable=["batch_stats"])[0].sum()

    value, gradient = jax.value_and_grad(loss)(x)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
