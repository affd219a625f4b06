"""What is there for XLA:CPU alone: the forms of a convolution, a gradient that is kept.

XLA:CPU computes most convolutions at the speed of a matrix product, some far below it:
the kernel gradients that are many-to-few, and those of at most 16 channels, which its
own library (YNNPACK) does not take; oneDNN, where that is on, does.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optnet_jax.ops.gradient import with_gradient
from optnet_jax.runs.devices import onednn_is_on

DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")
VECTOR = 16
"""float32 numbers in a register: with no more output channels, two pixels fill it."""


def half(kernel_shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the padding that keeps the size."""
    return [(size // 2, size // 2) for size in kernel_shape[:2]]


def direct(x: jax.Array, w: jax.Array, precision: Any = None) -> jax.Array:
    """Return x ∗ w as XLA computes it, padded to the size of x."""
    return _convolved(x, w, half(w.shape), precision)


def _convolved(
    x: jax.Array, w: jax.Array, padding: Any, precision: Any, strides: Any = (1, 1)
) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        w,
        strides,
        padding,
        dimension_numbers=DIMENSION_NUMBERS,
        precision=precision,
    )


def convolution(x: jax.Array, w: jax.Array, precision: Any = None) -> jax.Array:
    """Return x ∗ w, w [h, w, C, F] with odd h and w, in the form that is fastest."""
    size, (channels, features) = w.shape[:2], w.shape[2:]
    few = size == (3, 3) and x.shape[2] % 2 == 0 and channels == features <= VECTOR
    form = in_pairs if few and not onednn_is_on() else direct
    return form(x, w, precision)


def in_pairs(x: jax.Array, w: jax.Array, precision: Any = None) -> jax.Array:
    """Return x ∗ w of few outputs, computed for two neighbours at a time.

    The pair is an output of twice the channels and a kernel that is one column wider,
    at stride 2: a third of the products is with 0, and it is faster all the same. x has
    an even width, w is 3×3.
    """
    left, right = (
        jnp.pad(w, ((0, 0), columns, (0, 0), (0, 0))) for columns in ((0, 1), (1, 0))
    )
    both = jnp.concatenate([left, right], axis=3)
    pairs = _convolved(x, both, half(w.shape), precision, (1, 2))
    return pairs.reshape(*x.shape[:3], w.shape[3])


def kernel_gradient(
    x: jax.Array, dy: jax.Array, shape: tuple[int, ...], precision: Any = None
) -> jax.Array:
    """Return ∂w of ⟨∂y, x ∗ w⟩, w of the given shape, in the form that is fastest."""
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
    """Return x ∗ ∂y with the batch as the summed channels, [C, h, w, F]."""
    x, dy = x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3)
    return _convolved(x, dy, half(size), precision)


def kept_gradient(x: jax.Array) -> jax.Array:
    """Return x; its gradient is computed once and kept.

    The gradients of d_1..d_K of (21) form a chain of sums, which XLA:CPU otherwise
    fuses into each of its K consumers and computes anew there. It drops an
    optimization_barrier before it fuses, but it does not fuse across a matrix product,
    not even with the identity.
    """
    return _kept(x)  # a plain function, as what a network holds is copied and pickled


def _by_product(g: jax.Array) -> jax.Array:
    return jnp.tensordot(g, jnp.eye(g.shape[-1], dtype=g.dtype), 1, precision="highest")


def _identity(x: jax.Array) -> jax.Array:
    return x


_kept = with_gradient(
    _identity,
    lambda x: (x, None),
    lambda _, g: (lax.platform_dependent(g, cpu=_by_product, default=_identity),),
)
