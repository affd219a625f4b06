"""What is there for XLA:CPU alone: the forms of a convolution, a gradient that is kept.

XLA:CPU computes most convolutions at the speed of a matrix product, some far below it:
those of at most 16 channels, which its library (YNNPACK) does not take, and the kernel
gradients that are many-to-few or of many pixels. Times are of one core with AVX-512
(pairs: AMD EPYC; slices: Intel Xeon, 2 MB of second-level cache), float32, medians in
one process.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optnet_jax.ops.gradient import with_gradient

DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")
WHOLE, SLICE = 2**20, 2**19
"""Bytes of ∂y, or of x in its place, up to which ∂w takes it whole, and of a slice of a
larger one: what a second-level cache of 1 to 2 MB holds beside the rest."""
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
    at stride 2: a third of the products is with 0, and it is faster all the same.

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
    if shape[:2] == (1, 1):
        over = (0, 1, 2)
        return jnp.tensordot(x, dy, (over, over), precision=precision)[None, None]
    if shape[3] < shape[2]:
        # The same sums with the roles exchanged: a product of many columns is faster.
        dw = _by_convolution(dy, x, shape[:2], precision)
        return dw[:, ::-1, ::-1].transpose(1, 2, 3, 0)
    return _by_convolution(x, dy, shape[:2], precision).transpose(1, 2, 0, 3)


def _by_convolution(
    x: jax.Array, dy: jax.Array, size: tuple[int, ...], precision: Any
) -> jax.Array:
    """Return x ∗ ∂y with the batch as the summed channels, [C, h, w, F].

    XLA's library reads all of ∂y for every few rows of the result: where it is too
    large for the cache, it is taken in slices of rows.
    """
    height, rows = dy.shape[1], _rows(dy)
    (above, _), columns = half(size)
    if rows < height:
        x = jnp.pad(x, ((0, 0), (above, above), (0, 0), (0, 0)))
    x, dy = x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3)

    def convolve(x: jax.Array, dy: jax.Array, pad: int) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            dy,
            (1, 1),
            ((pad, pad), columns),
            dimension_numbers=DIMENSION_NUMBERS,
            precision=precision,
        )

    if rows == height:
        return convolve(x, dy, above)

    def add(total: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        part = lax.dynamic_slice_in_dim(x, start, rows + 2 * above, 1)
        by = lax.dynamic_slice_in_dim(dy, start, rows)
        return total + convolve(part, by, 0), None

    zeros = jnp.zeros((x.shape[0], *size, dy.shape[3]), jnp.result_type(x, dy))
    return lax.scan(add, zeros, jnp.arange(0, height, rows))[0]


def _rows(dy: jax.Array) -> int:
    """Return how many rows of images a slice of ∂y has: a divisor of their number.

    Devices that share the batch would have to sum over each other for every slice, not
    only once: there ∂y is one slice.
    """
    height = dy.shape[1]
    if dy.nbytes <= WHOLE or jax.device_count() > 1:
        return height
    divisors = (n for n in range(1, height + 1) if height % n == 0)
    return max(n for n in divisors if n == 1 or n * dy.nbytes <= SLICE * height)


def _identity(x: jax.Array) -> jax.Array:
    """Return x; its gradient is computed once and kept.

    The gradients of d_1..d_K of (21) form a chain of sums, which XLA:CPU otherwise
    fuses into each of its K consumers and computes anew there. It drops an
    optimization_barrier before it fuses, but it does not fuse across a matrix product,
    not even with the identity.
    """
    return x


def _by_product(g: jax.Array) -> jax.Array:
    return jnp.tensordot(g, jnp.eye(g.shape[-1], dtype=g.dtype), 1, precision="highest")


kept_gradient = with_gradient(
    _identity,
    lambda x: (x, None),
    lambda _, g: (lax.platform_dependent(g, cpu=_by_product, default=_identity),),
)
