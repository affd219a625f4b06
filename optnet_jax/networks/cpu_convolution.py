"""The forms of a convolution that are fast on a CPU, and which one is taken.

XLA:CPU computes most convolutions at the speed of a matrix product, some far below it:
those of few channels, and the kernel gradients that are many-to-few. Times are of one
core (AMD EPYC, AVX-512), float32, medians in one process.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")
FEW = 4
"""The factor between input and output channels from which ∂w is a matrix product."""
VECTOR = 16
"""float32 numbers in a register: with no more output channels, two pixels fill it."""


def half(kernel_shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the padding that keeps the size."""
    return [(size // 2, size // 2) for size in kernel_shape[:2]]


def direct(x: jax.Array, w: jax.Array, precision: Any = None) -> jax.Array:
    """Return x ∗ w as XLA computes it, padded to the size of x."""
    return lax.conv_general_dilated(
        x,
        w,
        (1, 1),
        half(w.shape),
        dimension_numbers=DIMENSION_NUMBERS,
        precision=precision,
    )


def convolution(x: jax.Array, w: jax.Array, precision: Any = None) -> jax.Array:
    """Return x ∗ w, padded to the size of x, in the form that is fastest.

    Args:
      x: [B, H, W, C].
      w: [h, w, C, F], odd h and w.
      precision: as in ``jax.lax``.
    """
    size, (channels, features) = w.shape[:2], w.shape[2:]
    if size == (3, 3) and x.shape[2] % 2 == 0 and channels == features <= VECTOR:
        return in_pairs(x, w, precision)
    return direct(x, w, precision)


def in_pairs(x: jax.Array, w: jax.Array, precision: Any = None) -> jax.Array:
    """Return x ∗ w of few outputs, computed for two neighbours at a time.

    The pair is an output of twice the channels and a kernel that is one column wider,
    at stride 2: a third of the products is with 0, but [32, 32, 32, 16] takes 1.9
    instead of 2.9 ms.

    Args:
      x: [B, H, W, C], even W.
      w: [3, 3, C, F].
      precision: as in ``jax.lax``.
    """
    left, right = (
        jnp.pad(w, ((0, 0), columns, (0, 0), (0, 0))) for columns in ((0, 1), (1, 0))
    )
    pairs = lax.conv_general_dilated(
        x,
        jnp.concatenate([left, right], axis=3),
        (1, 2),
        half(w.shape),
        dimension_numbers=DIMENSION_NUMBERS,
        precision=precision,
    )
    return pairs.reshape(*x.shape[:3], w.shape[3])


def kernel_gradient(
    x: jax.Array, dy: jax.Array, shape: tuple[int, ...], precision: Any = None
) -> jax.Array:
    """Return ∂w of ⟨∂y, x ∗ w⟩ in the form that is fastest.

    Args:
      x: [B, H, W, C].
      dy: [B, H, W, F].
      shape: of w.
      precision: as in ``jax.lax``.
    """
    if shape[:2] == (1, 1) or FEW * shape[3] < shape[2]:
        return _gradient_by_product(x, dy, shape, precision)
    return _gradient_by_convolution(x, dy, shape, precision)


def _gradient_by_convolution(
    x: jax.Array, dy: jax.Array, shape: tuple[int, ...], precision: Any
) -> jax.Array:
    dw = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        dy.transpose(1, 2, 0, 3),
        (1, 1),
        half(shape),
        dimension_numbers=DIMENSION_NUMBERS,
        precision=precision,
    )
    return dw.transpose(1, 2, 0, 3)


def _gradient_by_product(
    x: jax.Array, dy: jax.Array, shape: tuple[int, ...], precision: Any
) -> jax.Array:
    """∂w as one matrix product.

    For a 1×1 kernel, 256 to 128 channels of [4, 56, 56], 12 ms instead of 36; for a 3×3
    kernel, 88 to 12 channels of [16, 32, 32], 7 ms instead of 12.

    One of the operands is laid out anew for it, which computes that operand anew too:
    better ∂y, of few channels, than x, unless both are of one size.
    """
    height, width, channels, features = shape
    if height == width == 1 and channels <= 2 * features:
        over = (0, 1, 2)
        return jnp.tensordot(x, dy, (over, over), precision=precision)[None, None]
    planes = dy.transpose(3, 0, 1, 2)  # [F, B, H, W]
    padded = jnp.pad(planes, ((0, 0), (0, 0), *half(shape)))
    shifts = [
        padded[:, :, i : i + x.shape[1], j : j + x.shape[2]]
        for i in reversed(range(height))
        for j in reversed(range(width))
    ]
    dw = jnp.tensordot(
        jnp.concatenate(shifts).reshape(-1, math.prod(x.shape[:3])),
        x.reshape(-1, channels),
        1,
        precision=precision,
    )
    return dw.reshape(height, width, features, channels).swapaxes(2, 3)
