"""LeNet-5 and VGG-16: (7), x_{k+1} = T_k(x_k), T_k a composite of its own shape."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.networks import fields
from optnet_jax.networks.activation import activation, each
from optnet_jax.networks.images import check_images
from optnet_jax.ops.convolution import convolution
from optnet_jax.ops.initializers import xavier_normal
from optnet_jax.ops.normalization import BatchNorm
from optnet_jax.structures.fields import Rate, check


class FeedForward(nn.Module):
    """Convolutions with a pool after each stage, hidden layers, a linear classifier.

    The defaults are VGG-16, configuration D of Simonyan and Zisserman (2014).

    Attributes:
        num_classes: the size of the output.
        stage_sizes: the number of convolutions before each pool.
        widths: their channels.
        hidden: widths of the hidden layers.
        activation: Φ, a name of :mod:`~optnet_jax.networks.activation`, or one for each
            layer but the last.
        batch_norm: normalise after each convolution, which has no bias then.
        dropout_rate: share of the hidden activations that training drops.
        batch_norm_group: the number of samples that BatchNorm's statistics are taken
            over; None: the whole batch.
        classic: LeNet's layers, 5×5 without padding and mean pools, not 3×3 with it and
            the pools' maxima.
        dtype: of the computation; parameters, statistics and logits stay in float32.
    """

    num_classes: fields.Classes = 1000
    stage_sizes: fields.StageSizes = (2, 2, 3, 3, 3)
    widths: fields.Widths = (64, 128, 256, 512, 512)
    hidden: tuple[fields.Channels, ...] = (4096, 4096)
    activation: fields.Activations = "relu"
    batch_norm: bool = False
    dropout_rate: Rate = 0.5
    batch_norm_group: fields.Group | None = None
    classic: bool = False
    dtype: fields.Dtype | None = None

    def __post_init__(self):
        check(FeedForward, vars(self))
        if len(self.stage_sizes) != len(self.widths):
            raise InputError(
                f"stage_sizes and widths need one entry for each stage, got "
                f"{self.stage_sizes} and {self.widths}"
            )
        if self.batch_norm_group and not self.batch_norm:
            raise InputError(
                "batch_norm_group means nothing without BatchNorm: give "
                "batch_norm=True, or leave it out"
            )
        self._activations()
        super().__post_init__()

    @nn.nowrap
    def _activations(self) -> tuple[str, ...]:
        layers = sum(self.stage_sizes) + len(self.hidden)
        return each(self.activation, layers, "layers")

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
        smallest = 1
        for size in self.stage_sizes:
            smallest = 2 * smallest + 4 * size * self.classic
        check_images(images, smallest)
        x, names = images, iter(self._activations())
        pool = nn.avg_pool if self.classic else nn.max_pool
        for i, size in enumerate(self.stage_sizes):
            for j in range(size):
                place = f"{i}" if self.classic else f"{i}_{j}"
                x = self._conv(x, self.widths[i], place, next(names), train)
            x = pool(x, window_shape=(2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        drop = functools.partial(nn.Dropout, self.dropout_rate, deterministic=not train)
        for i, features in enumerate(self.hidden):
            x = self._dense(features, self.dtype, f"dense_{i}")(x)
            x = activation(next(names), f"dense_activation_{i}")(x)
            x = drop(name=f"dropout_{i}")(x) if self.dropout_rate else x
        head = self._dense(self.num_classes, None, "head")
        return head(x.astype(jnp.promote_types(x.dtype, jnp.float32)))

    def _conv(
        self, x: jax.Array, features: int, place: str, phi: str, train: bool
    ) -> jax.Array:
        conv = convolution(
            features,
            5 if self.classic else 3,
            padding=0 if self.classic else None,
            use_bias=not self.batch_norm,
            dtype=self.dtype,
            name=f"conv_{place}",
        )
        x, fused = conv(x), self.batch_norm and phi == "relu"
        if self.batch_norm:
            norm = BatchNorm(
                use_running_average=not train,
                relu=fused,
                group_size=self.batch_norm_group,
                dtype=self.dtype,
                name=f"norm_{place}",
            )
            x = norm(x)
        return x if fused else activation(phi, f"activation_{place}")(x)

    def _dense(self, features: int, dtype: Any, name: str) -> nn.Dense:
        return nn.Dense(features, kernel_init=xavier_normal, dtype=dtype, name=name)


_ONLY_VGG = ("stage_sizes", "batch_norm", "dropout_rate", "batch_norm_group")


@functools.partial(fields.with_fields_of, FeedForward, hidden=("classic", *_ONLY_VGG))
def lenet5(
    *,
    num_classes: fields.Classes = 10,
    widths: fields.Widths = (6, 16),
    hidden: tuple[fields.Channels, ...] = (120, 84),
    activation: fields.Activations = "tanh",
    **network: Any,
) -> FeedForward:
    """Return LeNet-5 (LeCun 1998), or one of other widths.

    C3 is connected to all of S2's maps, the pooling layers have no coefficients and
    the output is linear, as in today's versions: 61,706 parameters at 32×32×1.
    """
    return FeedForward(
        num_classes,
        (1,) * len(widths),
        widths,
        hidden,
        activation,
        dropout_rate=0.0,
        classic=True,
        **network,
    )


@functools.partial(fields.with_fields_of, FeedForward, hidden=("classic",))
def vgg16(**network: Any) -> FeedForward:
    """Return VGG-16, or one of other sizes."""
    return FeedForward(**network)


FEED_FORWARD_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "lenet5": lenet5,
    "vgg16": vgg16,
}
"""Name -> constructor."""
