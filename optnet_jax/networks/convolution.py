"""Convolutions: explicit padding, and gradients that are fast on a CPU.

The gradients that JAX derives of a convolution are convolutions with permuted operands.
XLA's CPU backend has a slow path for some of them: inside a ``lax.scan`` a stage of
residual units takes 16 times as long as written out, and the kernel gradients of a 1×1
or a many-to-few 3×3 convolution, DenseNet's, take 2 to 5 times as long as the matrix
products that they are. :func:`same_convolution` states them in the fast forms.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from optnet_jax.errors import InputError
from optnet_jax.networks.initializers import he_normal

DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")
FEW = 4
"""The factor between input and output channels from which ∂w is a matrix product."""


def convolution(
    features: int,
    kernel_size: int = 3,
    strides: int = 1,
    *,
    padding: int | None = None,
    use_bias: bool = False,
    dtype: Any = None,
    name: str | None = None,
) -> nn.Conv:
    """Return a square convolution with explicit padding, as torch pads.

    Args:
      features: output channels.
      kernel_size: height and width of the kernel.
      strides: in both directions.
      padding: zeros on each side; None: kernel_size // 2, which keeps the size.
      use_bias: add a bias; a normalisation that follows makes it idle.
      dtype: of the computation; None: that of input and kernel together.
      name: the linen name.
    """
    pad = kernel_size // 2 if padding is None else padding
    own_gradient = strides == 1 and 2 * pad == kernel_size - 1
    return nn.Conv(
        features,
        (kernel_size, kernel_size),
        strides,
        padding=((pad, pad), (pad, pad)),
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=he_normal,
        conv_general_dilated=same_convolution if own_gradient else None,
        name=name,
    )


def same_convolution(
    inputs: jax.Array,
    kernel: jax.Array,
    window_strides: Any = (1, 1),
    padding: Any = None,
    **options: Any,
) -> jax.Array:
    """Return ``lax.conv_general_dilated`` at stride 1, with gradients stated by hand.

    y = x ∗ w has ∂x = ∂y ∗ flip(w)ᵀ and ∂w = x ∗ ∂y with the batch as the summed axis.
    A 1×1 convolution is a matrix product, and so is ∂w where y has few channels.
    It enters linen as ``nn.Conv(conv_general_dilated=same_convolution)``. On platforms
    other than the CPU the derived gradients are taken.

    On one core, the kernel gradient of a 1×1 convolution from 256 to 128 channels of
    4 images of 56² takes 12 ms as a product and 36 ms as derived, that of a 3×3
    convolution from 88 to 12 channels of 16 images of 32² 7 ms and 12 ms.

    Args:
      inputs: [B, H, W, C].
      kernel: [h, w, C, F], odd h and w.
      window_strides: 1 in both directions.
      padding: ((h // 2, h // 2), (w // 2, w // 2)), or None for the same.
      **options: the other arguments of ``lax.conv_general_dilated``, at the values
        that linen gives them for an undilated, ungrouped NHWC convolution.

    Returns:
      [B, H, W, F]

    Raises:
      InputError: another stride, padding, dilation or grouping.
    """
    half = _half(kernel.shape)
    plain = (
        tuple(window_strides) == (1, 1)
        and (padding is None or list(map(tuple, padding)) == half)
        and all(size % 2 for size in kernel.shape[:2])
        and all(d == 1 for d in options.get("lhs_dilation") or (1,))
        and all(d == 1 for d in options.get("rhs_dilation") or (1,))
        and options.get("feature_group_count", 1) == 1
    )
    if not plain:
        raise InputError(
            "a same convolution has stride 1, an odd kernel, the padding that keeps "
            "the size, no dilation and no groups: use lax.conv_general_dilated"
        )
    return _convolution(inputs, kernel, options.get("precision"))


def _half(kernel_shape: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(size // 2, size // 2) for size in kernel_shape[:2]]


def _derived(x: jax.Array, w: jax.Array, precision: Any) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        w,
        (1, 1),
        _half(w.shape),
        dimension_numbers=DIMENSION_NUMBERS,
        precision=precision,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolution(x: jax.Array, w: jax.Array, precision: Any) -> jax.Array:
    if w.shape[:2] != (1, 1):
        return _derived(x, w, precision)
    product = functools.partial(_product, precision)
    derived = functools.partial(_derived, precision=precision)
    return lax.platform_dependent(x, w, cpu=product, default=derived)


def _product(precision: Any, x: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.tensordot(x, w[0, 0], 1, precision=precision)


def _forward(x: jax.Array, w: jax.Array, precision: Any) -> tuple:
    return _convolution(x, w, precision), (x, w)


def _backward(precision: Any, residuals: tuple, dy: jax.Array) -> tuple:
    # Only XLA:CPU needs the hand-written form; elsewhere the derived one is what the
    # compiler recognises as a library's own gradient kernels.
    return lax.platform_dependent(
        *residuals,
        dy,
        cpu=functools.partial(_gradients_by_hand, precision),
        default=functools.partial(_gradients_derived, precision),
    )


def _gradients_by_hand(
    precision: Any, x: jax.Array, w: jax.Array, dy: jax.Array
) -> tuple:
    dx = _convolution(dy, w[::-1, ::-1].swapaxes(2, 3), precision)
    product = w.shape[:2] == (1, 1) or FEW * w.shape[3] < w.shape[2]
    kernel_gradient = _by_product if product else _by_convolution
    return dx, kernel_gradient(x, dy, w.shape, precision)


def _by_convolution(
    x: jax.Array, dy: jax.Array, shape: tuple[int, ...], precision: Any
) -> jax.Array:
    dw = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        dy.transpose(1, 2, 0, 3),
        (1, 1),
        _half(shape),
        dimension_numbers=DIMENSION_NUMBERS,
        precision=precision,
    )
    return dw.transpose(1, 2, 0, 3)


def _by_product(
    x: jax.Array, dy: jax.Array, shape: tuple[int, ...], precision: Any
) -> jax.Array:
    """∂w as one matrix product.

    One of the operands is laid out anew for it, which computes that operand anew too:
    better ∂y, of few channels, than x, unless both are of one size.
    """
    height, width, channels, features = shape
    if height == width == 1 and channels <= 2 * features:
        over = (0, 1, 2)
        return jnp.tensordot(x, dy, (over, over), precision=precision)[None, None]
    planes = dy.transpose(3, 0, 1, 2)  # [F, B, H, W]
    padded = jnp.pad(planes, ((0, 0), (0, 0), *_half(shape)))
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


def _gradients_derived(
    precision: Any, x: jax.Array, w: jax.Array, dy: jax.Array
) -> tuple:
    return jax.vjp(lambda x, w: _derived(x, w, precision), x, w)[1](dy)


_convolution.defvjp(_forward, _backward)
