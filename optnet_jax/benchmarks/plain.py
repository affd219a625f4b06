"""ResNet-34 and DenseNet-121 in linen's own layers: what anyone would write first."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class PlainNet(nn.Module):
    """Stem, stages, mean over the pixels and a layer of logits, for ImageNet.

    Attributes:
        stage_sizes: the number of units of each stage.
        num_classes: number of logits.
        dtype: of the computation.
    """

    stage_sizes: tuple[int, ...]
    num_classes: int = 1000
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Return float32 logits of images, [B, 224, 224, 3]."""
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
        )
        x = conv(64, (7, 7), (2, 2), padding=3)(images)
        x = nn.relu(norm()(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=[(1, 1), (1, 1)])  # pyright: ignore
        x = self.stages(x, conv, norm).mean((1, 2))
        return nn.Dense(self.num_classes)(x.astype(jnp.float32))

    def stages(self, x: jax.Array, conv: Any, norm: Any) -> jax.Array:
        """Return what the stages make of the stem's output."""
        raise NotImplementedError


class PlainResNet(PlainNet):
    """Residual units of two convolutions (He et al. 2016)."""

    def stages(self, x: jax.Array, conv: Any, norm: Any) -> jax.Array:
        """See :meth:`PlainNet.stages`."""
        for i, units in enumerate(self.stage_sizes):
            for j in range(units):
                features, stride = 64 * 2**i, 2 if i > 0 and j == 0 else 1
                y = conv(features, (3, 3), (stride, stride), padding=1)(x)
                y = norm()(conv(features, (3, 3), padding=1)(nn.relu(norm()(y))))
                if x.shape != y.shape:
                    x = norm()(conv(features, (1, 1), (stride, stride))(x))
                x = nn.relu(x + y)
        return x


class PlainDenseNet(PlainNet):
    """Dense units with a bottleneck, growth rate 32 (Huang et al. 2017)."""

    def stages(self, x: jax.Array, conv: Any, norm: Any) -> jax.Array:
        """See :meth:`PlainNet.stages`."""
        for i, units in enumerate(self.stage_sizes):
            if i:
                x = conv(x.shape[-1] // 2, (1, 1))(nn.relu(norm()(x)))
                x = nn.avg_pool(x, (2, 2), (2, 2))
            for _ in range(units):
                y = conv(128, (1, 1))(nn.relu(norm()(x)))
                y = conv(32, (3, 3), padding=1)(nn.relu(norm()(y)))
                x = jnp.concatenate([x, y], -1)
        return nn.relu(norm()(x))


PLAIN = {
    "plain_resnet34": functools.partial(PlainResNet, (3, 4, 6, 3)),
    "plain_densenet121": functools.partial(PlainDenseNet, (6, 12, 24, 16)),
}
"""Name -> network, beside those of :mod:`optnet_jax.networks`."""
