import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.networks.dense_layer import DenseUnit, ScaledConv
from optnet_jax.ops.normalization import BatchNorm
from optnet_jax.recurrences import HistorySum
from optnet_jax.structures import Pairwise, Propagation

DEPTH, GROWTH, STEM = 2, 4, 5
CHANNELS = [STEM] + [GROWTH] * DEPTH


class Source(nn.Module):
    """BN-ReLU-conv of one source, without a bottleneck 3×3."""

    features: int
    norm: Any
    size: int

    @nn.compact
    def __call__(self, x):
        conv = ScaledConv(self.features, (self.size, self.size), name="conv")
        return conv(self.norm(name="norm")(x))


class PairwiseUnit(DenseUnit):
    """(21) as it is printed: one convolution for each source."""

    @nn.compact
    def __call__(self, sources, alpha=None):
        size, features = (1, self.bottleneck) if self.bottleneck else (3, self.features)
        pairs = Pairwise(Source(features, self.norm, size), name="pairs")
        x = self._dropped(pairs(sources, alpha))
        if not self.bottleneck:
            return x
        conv = ScaledConv(self.features, (3, 3), name="conv2")
        return self._dropped(conv(self.norm(name="norm2")(x)))


def _stage(unit, *, bottleneck, dropout_rate=0.0):
    norm = functools.partial(BatchNorm, use_running_average=False, relu=True)
    template = unit(
        GROWTH, norm, bottleneck=bottleneck, dropout_rate=dropout_rate, train=True
    )
    return Propagation(HistorySum(beta=0.1), template, DEPTH, learned=("alpha",))


def _pairwise_from_fused(fused, channels):
    """Split the fused layer's variables into those of its sources."""
    ends, shared, sources = np.cumsum(channels)[:-1], {}, {}
    for name, leaves in fused.items():
        if name in ("norm2", "conv2"):
            shared[name] = leaves
            continue
        # The input channels are a kernel's third axis and a norm's only one.
        axis, part = (2, "conv") if name.startswith("conv") else (0, "norm")
        for key, leaf in leaves.items():
            for j, piece in enumerate(jnp.split(leaf, ends, axis)):
                source = sources.setdefault(f"source_{j}", {})
                source.setdefault(part, {})[key] = piece
    return {**shared, "pairs": sources}


def _pairwise(collection):
    def convert(name, value):
        if not name.startswith("layer_"):
            return value
        return _pairwise_from_fused(value, CHANNELS[: int(name[6:]) + 1])

    return {name: convert(name, value) for name, value in collection.items()}


def _run(stage, variables, z0, target):
    def loss(params, z0):
        z, updated = stage.apply(
            {**variables, "params": params},
            z0,
            trajectory=True,
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
def test_one_convolution_equals_one_for_each_pair(
    float64, random_variables, assert_close, bottleneck, dropout_rate
):
    rng = np.random.default_rng(0)
    z0 = jnp.asarray(rng.standard_normal((2, 6, 5, STEM)))
    target = [jnp.asarray(rng.standard_normal((2, 6, 5, GROWTH)))] * DEPTH
    options = {"bottleneck": bottleneck, "dropout_rate": dropout_rate}
    fused = _stage(DenseUnit, **options)
    variables = random_variables(fused, z0)
    z, stats, dparams, dz0 = _run(fused, variables, z0, target)

    pairwise = _stage(PairwiseUnit, **options)
    split = {name: _pairwise(collection) for name, collection in variables.items()}
    literal = _run(pairwise, split, z0, target)

    expected = z, _pairwise(stats), _pairwise(dparams), dz0
    assert_close(literal, expected, 1e-12)
    assert all(np.any(g != 0) for g in jax.tree.leaves(dparams))


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
