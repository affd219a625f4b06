"""Pools in the forms that are fast on a CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from optnet_jax.networks.convolution import same_convolution


def max_pool(x: jax.Array) -> jax.Array:
    """Return the 3×3 maximum with stride 2 and one row and column of padding.

    XLA:CPU computes the derived gradient of a window's maximum by searching every
    window for its place, element by element. There the maximum is taken over shifted
    views, whose gradients are selections (halved where two are equal): 16 ms instead of
    109 ms for the gradient of [4, 112, 112, 64] on one core, 1.9 instead of 5.6 ms
    for the value.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, (H + 1) // 2, (W + 1) // 2, C]
    """
    return lax.platform_dependent(x, cpu=_of_shifts, default=_of_windows)


def _of_windows(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])  # pyright: ignore


def _of_shifts(x: jax.Array) -> jax.Array:
    for axis in (1, 2):
        length = x.shape[axis]
        widths = [(0, 0)] * x.ndim
        widths[axis] = (1, 1)
        padded = jnp.pad(x, widths, constant_values=-jnp.inf)
        first, second, third = (
            lax.slice_in_dim(padded, i, i + length, stride=2, axis=axis)
            for i in range(3)
        )
        x = jnp.maximum(jnp.maximum(first, second), third)
    return x


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
    return nn.avg_pool(x, (2, 2), strides=(2, 2))
