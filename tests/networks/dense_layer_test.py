import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.networks.dense_layer import (
    FusedCombination,
    PairwiseCombination,
    ScaledConv,
    pairwise_from_fused,
)
from optnet_jax.ops.normalization import BatchNorm
from optnet_jax.structures.dense_stage import DenseStage

DEPTH, GROWTH, STEM = 2, 4, 5
CHANNELS = [STEM] + [GROWTH] * DEPTH


def _stage(combination, *, bottleneck, dropout_rate=0.0):
    norm = functools.partial(BatchNorm, use_running_average=False, relu=True)
    template = combination(
        GROWTH, norm, bottleneck=bottleneck, dropout_rate=dropout_rate, train=True
    )
    return DenseStage(template, DEPTH, beta=0.1, learned=("alpha",))


def _variables(stage, z0):
    """Draw everything, also what initialisation sets to 0 or 1."""
    rngs = {name: jax.random.key(0) for name in ("params", "dropout")}
    shapes = jax.eval_shape(stage.init, rngs, z0)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: jnp.asarray(rng.uniform(0.3, 1.2, s.shape)), shapes)


def _pairwise(collection):
    def convert(name, value):
        if not name.startswith("layer_"):
            return value
        return pairwise_from_fused(value, CHANNELS[: int(name[6:]) + 1])

    return {name: convert(name, value) for name, value in collection.items()}


def _run(stage, variables, z0, target):
    def loss(params, z0):
        z, updated = stage.apply(
            {**variables, "params": params},
            z0,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(5)},
        )
        return sum(jnp.sum(a * b) for a, b in zip(z[1:], target, strict=True)), (
            z,
            updated["batch_stats"],
        )

    run = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, (z, stats)), (dparams, dz0) = jax.jit(run)(variables["params"], z0)
    return z, stats, dparams, dz0


@pytest.mark.parametrize(("bottleneck", "dropout_rate"), [(0, 0.0), (6, 0.5)])
def test_one_convolution_equals_one_for_each_pair(float64, bottleneck, dropout_rate):
    rng = np.random.default_rng(0)
    z0 = jnp.asarray(rng.standard_normal((2, 6, 5, STEM)))
    target = [jnp.asarray(rng.standard_normal((2, 6, 5, GROWTH)))] * DEPTH
    options = {"bottleneck": bottleneck, "dropout_rate": dropout_rate}
    fused = _stage(FusedCombination, **options)
    variables = _variables(fused, z0)
    z, stats, dparams, dz0 = _run(fused, variables, z0, target)

    pairwise = _stage(PairwiseCombination, **options)
    split = {name: _pairwise(collection) for name, collection in variables.items()}
    literal = _run(pairwise, split, z0, target)

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(b).max())

    jax.tree.map(close, literal, (z, _pairwise(stats), _pairwise(dparams), dz0))
    assert all(np.any(g != 0) for g in jax.tree.leaves(dparams))


def test_pairwise_initialisation_has_the_fused_shapes():
    z0 = jnp.zeros((1, 4, 4, STEM))
    fused, pairwise = (
        jax.eval_shape(_stage(form, bottleneck=6).init, jax.random.key(0), z0)
        for form in (FusedCombination, PairwiseCombination)
    )
    drawn = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), fused)
    for name in ("params", "batch_stats"):
        split = jax.tree.map(jnp.shape, _pairwise(drawn[name]))
        assert split == jax.tree.map(jnp.shape, pairwise[name])


def test_scaled_kernel_is_a_scaled_input():
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 3))
    scale = jnp.asarray([0.5, -2.0, 3.0])
    conv = ScaledConv(4, (3, 3))
    variables = conv.init(jax.random.key(1), x)
    np.testing.assert_allclose(
        conv.apply(variables, x, scale),
        conv.apply(variables, x * scale[None, None, None]),
        rtol=1e-4,
        atol=1e-5,
    )
