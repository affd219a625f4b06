"""Convolutions: explicit padding, and gradients that are fast on a CPU.

The gradients that JAX derives of a convolution are convolutions with permuted operands.
XLA's CPU backend has a slow path for some of them, inside a ``lax.scan`` and for the
kernels of a 1×1 or a many-to-few 3×3 convolution. :func:`same_convolution` states them
by hand.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from jax import lax

from optnet_jax.errors import InputError
from optnet_jax.ops import cpu
from optnet_jax.ops.gradient import with_gradient
from optnet_jax.ops.initializers import he_normal


def convolution(
    features: int,
    kernel_size: int = 3,
    strides: int = 1,
    *,
    padding: int | None = None,
    use_bias: bool = False,
    derived: bool = False,
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
        derived: take the gradients that JAX derives, also at stride 1.
        dtype: of the computation; None: that of input and kernel together.
        name: the linen name.
    """
    pad = kernel_size // 2 if padding is None else padding
    own_gradient = not derived and strides == 1 and 2 * pad == kernel_size - 1
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

    y = x ∗ w has ∂x = ∂y ∗ flip(w)ᵀ and ∂w = x ∗ ∂y with the batch as the summed axis,
    each on a CPU in the form of :mod:`.cpu_convolution`. It enters linen as
    ``nn.Conv(conv_general_dilated=same_convolution)``. On other platforms XLA's own
    convolution and the derived gradients are taken.

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
    half = cpu.half(kernel.shape)
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
    return _convolution(options.get("precision"))(inputs, kernel)


@functools.cache
def _convolution(precision: Any) -> Callable[[jax.Array, jax.Array], jax.Array]:
    def by_hand(x: jax.Array, w: jax.Array, dy: jax.Array) -> tuple:
        flipped = w[::-1, ::-1].swapaxes(2, 3)
        dx = cpu.convolution(dy, flipped, precision)
        return dx, cpu.kernel_gradient(x, dy, w.shape, precision)

    def backward(residuals: tuple, dy: jax.Array) -> tuple:
        # Only XLA:CPU needs the hand-written form; elsewhere the derived one is what
        # the compiler recognises as a library's own gradient kernels.
        derived = functools.partial(_gradients_derived, precision)
        return lax.platform_dependent(*residuals, dy, cpu=by_hand, default=derived)

    def convolve(x: jax.Array, w: jax.Array) -> jax.Array:
        fast, direct = (
            functools.partial(form, precision=precision)
            for form in (cpu.convolution, cpu.direct)
        )
        return lax.platform_dependent(x, w, cpu=fast, default=direct)

    run = with_gradient(convolve, lambda x, w: (run(x, w), (x, w)), backward)
    return run


def _gradients_derived(
    precision: Any, x: jax.Array, w: jax.Array, dy: jax.Array
) -> tuple:
    derived = functools.partial(cpu.direct, precision=precision)
    return jax.vjp(derived, x, w)[1](dy)
