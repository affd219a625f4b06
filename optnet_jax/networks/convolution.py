"""Convolutions: explicit padding, and one that is fast inside a scan.

Inside a ``lax.scan`` the gradient convolutions that JAX derives have operand layouts
for which XLA's CPU backend has no fast path in a while loop: a stage of residual units
takes 16 times as long as written out. :func:`scan_proof_convolution` states both
gradients as ordinary forward convolutions instead, and the loss is gone.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
from flax import linen as nn
from jax import lax

from optnet_jax.errors import InputError
from optnet_jax.networks.initializers import he_normal

DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")


def convolution(
    features: int,
    kernel_size: int = 3,
    strides: int = 1,
    *,
    padding: int | None = None,
    use_bias: bool = False,
    dtype: Any = None,
    scanned: bool = False,
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
      scanned: the convolution runs inside a ``lax.scan``.
      name: the linen name.
    """
    pad = kernel_size // 2 if padding is None else padding
    own_gradient = scanned and strides == 1 and 2 * pad == kernel_size - 1
    return nn.Conv(
        features,
        (kernel_size, kernel_size),
        strides,
        padding=((pad, pad), (pad, pad)),
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=he_normal,
        conv_general_dilated=scan_proof_convolution if own_gradient else None,
        name=name,
    )


def scan_proof_convolution(
    inputs: jax.Array,
    kernel: jax.Array,
    window_strides: Any,
    padding: Any,
    **options: Any,
) -> jax.Array:
    """Return ``lax.conv_general_dilated`` with both gradients stated by hand.

    y = x ∗ w has ∂x = ∂y ∗ flip(w)ᵀ and ∂w = x ∗ ∂y with the batch as the summed axis.
    It enters linen as ``nn.Conv(conv_general_dilated=scan_proof_convolution)``.

    Args:
      inputs: [B, H, W, C].
      kernel: [h, w, C, F], odd h and w.
      window_strides: 1 in both directions.
      padding: ((h // 2, h // 2), (w // 2, w // 2)).
      **options: the other arguments of ``lax.conv_general_dilated``, at the values
        that linen gives them for an undilated, ungrouped NHWC convolution.

    Returns:
      [B, H, W, F]

    Raises:
      InputError: another stride, padding, dilation or grouping.
    """
    half = tuple((size // 2, size // 2) for size in kernel.shape[:2])
    plain = (
        tuple(window_strides) == (1, 1)
        and tuple(map(tuple, padding)) == half
        and all(size % 2 for size in kernel.shape[:2])
        and all(d == 1 for d in options.get("lhs_dilation") or (1,))
        and all(d == 1 for d in options.get("rhs_dilation") or (1,))
        and options.get("feature_group_count", 1) == 1
    )
    if not plain:
        raise InputError(
            "a scan-proof convolution has stride 1, an odd kernel, the padding that "
            "keeps the size, no dilation and no groups: use lax.conv_general_dilated"
        )
    return _convolution(inputs, kernel, options.get("precision"))


def _derived(x: jax.Array, w: jax.Array, precision: Any) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        w,
        (1, 1),
        [(size // 2, size // 2) for size in w.shape[:2]],
        dimension_numbers=DIMENSION_NUMBERS,
        precision=precision,
    )


_convolution = jax.custom_vjp(_derived, nondiff_argnums=(2,))


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
    dw = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        dy.transpose(1, 2, 0, 3),
        (1, 1),
        [(size // 2, size // 2) for size in w.shape[:2]],
        dimension_numbers=DIMENSION_NUMBERS,
        precision=precision,
    )
    return dx, dw.transpose(1, 2, 0, 3)


def _gradients_derived(
    precision: Any, x: jax.Array, w: jax.Array, dy: jax.Array
) -> tuple:
    return jax.vjp(lambda x, w: _derived(x, w, precision), x, w)[1](dy)


_convolution.defvjp(_forward, _backward)
