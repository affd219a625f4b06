"""Σ_j α_j T_j(z_j) with T = BN-ReLU-conv: what AGD-Net and DenseNet combine (§6.2)."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

from optnet_jax.ops.convolution import same_convolution
from optnet_jax.ops.initializers import he_normal
from optnet_jax.ops.pooling import mean_pool, mean_pooled_product


class ScaledConv(nn.Module):
    """Convolution without bias whose kernel's input channels can be scaled.

    Attributes:
        features: the number of output channels.
        kernel_size: (height, width), "same" padding for odd sizes.
        dtype: of the computation; None: that of input and kernel together.
        operation: of x and the kernel.
    """

    features: int
    kernel_size: tuple[int, int]
    dtype: Any = None
    operation: Callable[..., jax.Array] = same_convolution

    @nn.compact
    def __call__(self, x: jax.Array, scale: jax.Array | None = None) -> jax.Array:
        """Return the convolution of x, [B, H, W, C], with scale [C] on the kernel."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", he_normal, shape)
        if scale is not None:
            kernel = kernel * scale.astype(kernel.dtype)[None, None, :, None]
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        return self.operation(x, kernel)


class DenseUnit(nn.Module):
    """Σ_j α_j conv_j(ReLU(BN_j(z_j))) as one convolution.

    A convolution of concatenated inputs is the sum of the convolutions of each with its
    slice of the kernel, so α_j enters as a factor of that slice. DenseNet's layer is
    α ≡ 1.

    With a bottleneck, T_j is BN-ReLU-1×1 and the sum goes through one BN-ReLU-3×3 that
    all sources share: DenseNet-B at α ≡ 1.

    Attributes:
        features: output channels (the growth rate).
        norm: makes the normalisation with the ReLU, called with ``name=``; it takes
            parts of a concatenation, as :class:`~.normalization.BatchNorm` does.
        bottleneck: channels between the 1×1 and the 3×3 convolution; 0: no bottleneck.
        dropout_rate: share of the activations that training drops after each
            convolution: of the sum over j, not of its terms. DenseNet's recipe is 0.2
            on CIFAR without augmentation.
        train: whether to drop.
        dtype: of the computation.
    """

    features: int
    norm: Any
    bottleneck: int = 0
    dropout_rate: float = 0.0
    train: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, sources: Sequence[jax.Array], alpha: Any = None) -> jax.Array:
        """Return the combination.

        Args:
            sources: z_0..z_k, [B, H, W, C_j].
            alpha: α_0..α_k, or None for ones.

        Returns:
            [B, H, W, features].
        """
        scale = None if alpha is None else _per_channel(alpha, sources)
        if not self.bottleneck:
            conv = ScaledConv(self.features, (3, 3), self.dtype, name="conv")
            return self._dropped(conv(self.norm(name="norm")(sources), scale))
        conv = ScaledConv(self.bottleneck, (1, 1), self.dtype, name="conv1")
        x = self._dropped(conv(self.norm(name="norm1")(sources), scale))
        conv = ScaledConv(self.features, (3, 3), self.dtype, name="conv2")
        return self._dropped(conv(self.norm(name="norm2")(x)))

    def _dropped(self, x: jax.Array) -> jax.Array:
        if not (self.dropout_rate and self.train):
            return x
        return nn.Dropout(self.dropout_rate, deterministic=False)(x)


def bottleneck_unit(features: int, **fields: Any) -> DenseUnit:
    """Return DenseNet-B's unit, with 4 ``features`` in between."""
    return DenseUnit(features, bottleneck=4 * features, **fields)


DENSE_BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "dense": DenseUnit,
    "dense_bottleneck": bottleneck_unit,
}
"""Name -> combination, for the field ``block`` of a network over the history."""


class DenseTransition(nn.Module):
    """BN-ReLU-1×1 and 2×2 average pooling between two dense stages.

    Its attributes are those of :class:`DenseUnit`.
    """

    features: int
    norm: Any
    dropout_rate: float = 0.0
    train: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, parts: Sequence[jax.Array]) -> jax.Array:
        """Return half the height and width of x, rounded down.

        Args:
            parts: of x along the channels, [B, H, W, C_j].
        """
        conv = functools.partial(
            ScaledConv, self.features, (1, 1), self.dtype, name="conv"
        )
        x = self.norm(name="norm")(parts)
        if not (self.dropout_rate and self.train):
            return conv(operation=mean_pooled_product)(x)
        return mean_pool(nn.Dropout(self.dropout_rate, deterministic=False)(conv()(x)))


def _per_channel(alpha: Any, sources: Sequence[jax.Array]) -> jax.Array:
    """Repeat α_j over the channels of source j, [C_0 + ... + C_k]."""
    # The product with a constant indicator: exact, one small operation each way, where
    # jnp.repeat compiles a cumulative sum, a gather and a scatter for every layer.
    channels = [z.shape[-1] for z in sources]
    indicator = np.repeat(np.eye(len(sources)), channels, axis=1)
    alpha = jnp.asarray(alpha)
    return jnp.dot(alpha, indicator.astype(alpha.dtype), precision="highest")
