"""LeNet-5 and VGG-16 as (7), x_{k+1} = T_k(x_k), T_k a composite of its own shape."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.networks import fields
from optnet_jax.networks.activation import activation
from optnet_jax.networks.images import check_images
from optnet_jax.ops.convolution import convolution
from optnet_jax.ops.initializers import xavier_normal
from optnet_jax.ops.normalization import BatchNorm
from optnet_jax.recurrences import GradientDescent

Layer = Callable[[jax.Array], jax.Array]


def propagate(layers: Sequence[Layer], x: jax.Array) -> jax.Array:
    """Return x_K of (7) over T_0..T_{K-1}, which may change the shape."""
    method = GradientDescent()
    state = method.init(x)
    for transform in layers:
        state = method.step(transform, state, {})
    return method.output(state)


class LeNet5(nn.Module):
    """LeNet-5 (LeCun 1998): two convolutions, two hidden layers, a linear classifier.

    C3 is connected to all of S2's maps, the pooling layers have no coefficients and
    the output is linear, as in today's versions: 61,706 parameters at 32×32×1.

    Attributes:
        num_classes: the size of the output.
        widths: channels of the two 5×5 convolutions.
        hidden: widths of the hidden layers.
        activation: "tanh", the original's, or another of
            :mod:`~optnet_jax.networks.activation`.
        dtype: of the computation; parameters and logits stay in float32.
    """

    num_classes: int = 10
    widths: tuple[int, ...] = (6, 16)
    hidden: tuple[int, ...] = (120, 84)
    activation: str = "tanh"
    dtype: Any = None

    def __post_init__(self):
        fields.check_module(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Return the logits.

        Args:
            images: [B, H, W, C].
            train: the network has nothing that training changes.

        Returns:
            [B, num_classes] float32.

        Raises:
            InputError: images that are too small.
        """
        del train
        smallest = 1
        for _ in self.widths:
            smallest = 2 * smallest + 4
        check_images(images, smallest)
        layers: list[Layer] = []
        for i, features in enumerate(self.widths):
            conv = convolution(
                features,
                5,
                padding=0,
                use_bias=True,
                dtype=self.dtype,
                name=f"conv_{i}",
            )
            phi = activation(self.activation, f"activation_{i}")
            layers.append(_composite(conv, phi, _pool(nn.avg_pool)))
        layers.append(_flatten)
        for i, features in enumerate(self.hidden):
            phi = activation(self.activation, f"dense_activation_{i}")
            layers.append(_composite(_dense(features, self.dtype, f"dense_{i}"), phi))
        return _classifier(self.num_classes)(propagate(layers, images))


class VGG(nn.Module):
    """VGG (Simonyan and Zisserman 2014); the defaults are VGG-16 (configuration D).

    Attributes:
        num_classes: the size of the output.
        stage_sizes: the number of 3×3 convolutions before each 2×2 pool.
        widths: their channels.
        hidden: widths of the hidden layers.
        activation: Φ, a name of :mod:`~optnet_jax.networks.activation`.
        batch_norm: normalise after each convolution, which has no bias then.
        dropout_rate: share of the hidden activations that training drops.
        batch_norm_group: the number of samples that BatchNorm's statistics are taken
            over; None: the whole batch.
        dtype: of the computation; parameters, statistics and logits stay in float32.
    """

    num_classes: int = 1000
    stage_sizes: tuple[int, ...] = (2, 2, 3, 3, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    hidden: tuple[int, ...] = (4096, 4096)
    activation: str = "relu"
    batch_norm: bool = False
    dropout_rate: float = 0.5
    batch_norm_group: int | None = None
    dtype: Any = None

    def __post_init__(self):
        fields.check_module(self)
        if len(self.stage_sizes) != len(self.widths):
            raise InputError(
                f"stage_sizes and widths need one entry for each stage, got "
                f"{self.stage_sizes} and {self.widths}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Return the logits.

        Args:
            images: [B, H, W, C].
            train: use the batch's statistics and dropout (rng "dropout").

        Returns:
            [B, num_classes] float32.

        Raises:
            InputError: images that are too small.
        """
        check_images(images, 2 ** len(self.stage_sizes))
        layers: list[Layer] = []
        for i, (size, features) in enumerate(
            zip(self.stage_sizes, self.widths, strict=True)
        ):
            layers += [
                self._conv(features, f"{i}_{j}", train, pool=j + 1 == size)
                for j in range(size)
            ]
        layers.append(_flatten)
        for i, features in enumerate(self.hidden):
            dropout = nn.Dropout(
                self.dropout_rate, deterministic=not train, name=f"dropout_{i}"
            )
            dense = _dense(features, self.dtype, f"dense_{i}")
            phi = activation(self.activation, f"dense_activation_{i}")
            layers.append(_composite(dense, phi, dropout))
        return _classifier(self.num_classes)(propagate(layers, images))

    def _conv(self, features: int, name: str, train: bool, pool: bool) -> Layer:
        conv = convolution(
            features,
            use_bias=not self.batch_norm,
            dtype=self.dtype,
            name=f"conv_{name}",
        )
        parts: list[Layer] = [conv]
        fused = self.batch_norm and self.activation == "relu"
        if self.batch_norm:
            norm = BatchNorm(
                use_running_average=not train,
                relu=fused,
                group_size=self.batch_norm_group,
                dtype=self.dtype,
                name=f"norm_{name}",
            )
            parts.append(norm)
        if not fused:
            parts.append(activation(self.activation, f"activation_{name}"))
        return _composite(*parts, *([_pool(nn.max_pool)] if pool else []))


def _composite(*parts: Layer) -> Layer:
    return lambda x: functools.reduce(lambda y, part: part(y), parts, x)


def _pool(pool: Callable[..., jax.Array]) -> Layer:
    return functools.partial(pool, window_shape=(2, 2), strides=(2, 2))


def _flatten(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def _dense(features: int, dtype: Any, name: str) -> nn.Dense:
    return nn.Dense(features, kernel_init=xavier_normal, dtype=dtype, name=name)


def _classifier(num_classes: int) -> Layer:
    head = _dense(num_classes, None, "head")
    return lambda x: head(x.astype(jnp.promote_types(x.dtype, jnp.float32)))


FEED_FORWARD_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "lenet5": LeNet5,
    "vgg16": VGG,
}
"""Name -> constructor."""
