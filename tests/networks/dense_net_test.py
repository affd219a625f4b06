"""DenseNet and AGD-Net against a DenseNet that is written from its own paper."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.networks.dense_net import DenseNet

SIZES, GROWTH, CLASSES = (2, 2), 4, 3
BOTTLENECK = {"bottleneck": True, "compression": 0.5}


class HuangLayer(nn.Module):
    """H([x_0, ..., x_l]) of Huang et al. (2017) §3: BN-ReLU-conv, in plain linen."""

    bottleneck: bool
    train: bool

    @nn.compact
    def __call__(self, x):
        def norm(name, x):
            bn = nn.BatchNorm(not self.train, momentum=0.9, epsilon=1e-5, name=name)
            return nn.relu(bn(x))

        if not self.bottleneck:
            return nn.Conv(GROWTH, (3, 3), use_bias=False, name="conv")(norm("norm", x))
        x = nn.Conv(4 * GROWTH, (1, 1), use_bias=False, name="conv1")(norm("norm1", x))
        return nn.Conv(GROWTH, (3, 3), use_bias=False, name="conv2")(norm("norm2", x))


class HuangBlock(nn.Module):
    size: int
    bottleneck: bool
    train: bool

    @nn.compact
    def __call__(self, x):
        for k in range(self.size):
            new = HuangLayer(self.bottleneck, self.train, name=f"layer_{k}")(x)
            x = jnp.concatenate([x, new], -1)
        return x


class HuangTransition(nn.Module):
    features: int
    train: bool

    @nn.compact
    def __call__(self, x):
        bn = nn.BatchNorm(not self.train, momentum=0.9, epsilon=1e-5, name="norm")
        x = nn.Conv(self.features, (1, 1), use_bias=False, name="conv")(nn.relu(bn(x)))
        return nn.avg_pool(x, (2, 2), (2, 2))


class HuangDenseNet(nn.Module):
    bottleneck: bool = False
    compression: float = 1.0

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(16, (3, 3), use_bias=False, name="stem_conv")(x)
        for i, size in enumerate(SIZES):
            x = HuangBlock(size, self.bottleneck, train, name=f"stage_{i}")(x)
            if i < len(SIZES) - 1:
                features = int(self.compression * x.shape[-1])
                x = HuangTransition(features, train, name=f"transition_{i}")(x)
        bn = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name="norm")
        return nn.Dense(CLASSES, name="head")(nn.relu(bn(x)).mean((1, 2)))


def _small(**fields):
    return DenseNet(
        stage_sizes=SIZES, growth_rate=GROWTH, num_classes=CLASSES, **fields
    )


def _draw(module, images, seed=0):
    init = functools.partial(module.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), images)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(rng.uniform(0.2, 1.0, s.shape)), shapes)


def _run(module, variables, images):
    def loss(params):
        logits, updated = module.apply(
            {**variables, "params": params},
            images,
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.sum(logits**2), (logits, updated["batch_stats"])

    (_, (logits, stats)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        variables["params"]
    )
    return logits, stats, gradient


def _close(actual, expected, tolerance=1e-11):
    def close(a, b):
        scale = np.abs(b).max()
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)

    jax.tree.map(close, actual, expected)


@pytest.mark.parametrize("fields", [{}, BOTTLENECK], ids=["plain", "bottleneck"])
def test_unit_alpha_and_no_beta_is_densenet(float64, fields):
    images = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6, 6, 2)))
    reference = HuangDenseNet(**fields)
    variables = _draw(reference, images)
    expected = _run(reference, variables, images)

    densenet = _small(**fields)
    _close(_run(densenet, variables, images), expected)
    _close(
        densenet.apply(variables, images, train=False),
        reference.apply(variables, images, train=False),
    )

    agd = _small(**fields, learned=("alpha",), beta=0.0)
    params = dict(variables["params"])
    for i, size in enumerate(SIZES):
        ones = jnp.ones(size * (size + 1) // 2)
        params[f"stage_{i}"] = {**params[f"stage_{i}"], "alpha": ones}
    logits, stats, gradient = _run(agd, {**variables, "params": params}, images)
    for i in range(len(SIZES)):
        assert np.all(gradient[f"stage_{i}"].pop("alpha") != 0)
    _close((logits, stats, gradient), expected)


def test_agd_net_is_not_densenet(float64):
    images = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6, 6, 2)))
    densenet = _small()
    variables = _draw(densenet, images)
    difference = densenet.apply(variables, images) - _small(beta=0.1).apply(
        variables, images
    )
    assert np.abs(difference).max() > 1e-3


def test_compute_in_bfloat16_keeps_state_and_logits_in_float32():
    images = jnp.ones((2, 4, 4, 1))
    module = _small(dtype=jnp.bfloat16, learned=("alpha",), beta=0.1)
    variables = jax.tree.map(jnp.float32, _draw(module, images))
    logits, stats, gradient = _run(module, variables, images)
    for leaf in jax.tree.leaves((logits, stats, gradient)):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()


def test_dropout_acts_in_training_only():
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 4, 1)))
    plain, dropped = _small(), _small(dropout_rate=0.2)
    variables = _draw(plain, images)
    _close(
        dropped.apply(variables, images, train=False),
        plain.apply(variables, images, train=False),
        0,
    )

    @jax.jit
    def run(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return dropped.apply(
            variables, images, train=True, rngs=rngs, mutable=["batch_stats"]
        )[0]

    first, again, other = map(run, (0, 0, 1))
    _close(first, again, 0)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"stem": "mnist"}, (1, 8, 8, 1), "stem must be one of cifar, imagenet"),
        ({"compression": 0.0}, (1, 8, 8, 1), "compression must be"),
        ({"stage_sizes": ()}, (1, 8, 8, 1), "stage_sizes"),
        ({}, (8, 8, 1), r"\[B, H, W, C\]"),
        ({}, (1, 8, 3, 1), "8x3 are smaller.*at least 4x4"),
        ({"stem": "imagenet"}, (1, 8, 8, 1), "at least 16x16"),
        ({"dropout_rate": 1.0}, (1, 8, 8, 1), "dropout_rate"),
    ],
)
def test_bad_input(fields, shape, message):
    with pytest.raises(InputError, match=message):
        DenseNet(**fields).init(jax.random.key(0), jnp.ones(shape))
