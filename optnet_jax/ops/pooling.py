"""The pools of the networks for images."""

import jax
from flax import linen as nn
from jax import lax

from optnet_jax.ops.convolution import same_convolution


def max_pool(x: jax.Array) -> jax.Array:
    """Return the 3×3 maximum with stride 2 and one row and column of padding.

    Args:
        x: [B, H, W, C].

    Returns:
        [B, (H + 1) // 2, (W + 1) // 2, C]
    """
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])  # pyright: ignore


def mean_pooled_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the 2×2 average pool of a 1×1 convolution.

    The two commute: pooling first takes a quarter of the products.

    Args:
        x: [B, H, W, C].
        kernel: [1, 1, C, F].

    Returns:
        [B, H // 2, W // 2, F]
    """
    return lax.platform_dependent(x, kernel, cpu=_pool_first, default=_pool_last)


def _pool_first(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return same_convolution(mean_pool(x), kernel)


def _pool_last(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return mean_pool(same_convolution(x, kernel))


def mean_pool(x: jax.Array) -> jax.Array:
    """Return the 2×2 average pool with stride 2 of x, [B, H, W, C]."""
    return nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
