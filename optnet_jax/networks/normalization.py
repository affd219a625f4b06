"""Batch normalisation, with the ReLU after it and a backward pass written by hand."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.errors import InputError


class BatchNorm(nn.Module):
    """y = γ (x - mean) / √(var + ε) + β over all axes but the last, then maybe ReLU.

    It has ``nn.BatchNorm``'s variables (params ``scale``, ``bias``; batch_stats
    ``mean``, ``var``) and its values. What differs is the backward pass: autodiff
    writes out x - mean, its product with γ / √(var + ε) and the ReLU's mask, here the
    input alone is kept and the gradient is the closed form (Ioffe and Szegedy 2015).

    Statistics are float32 at least, whatever the dtype of x; the running variance is
    the biased one. The running statistics carry no gradient.

    Attributes:
      use_running_average: normalise with the running statistics (evaluation) instead
        of the batch's.
      relu: follow with a ReLU.
      group_size: the number of consecutive samples that one mean and variance is taken
        over; None: the whole batch. §7.1's "256 among 4 GPUs" is 64. The running
        statistics move towards the mean over the groups.
      momentum: weight of the old running statistics in an update.
      epsilon: ε, added to the variance.
      dtype: of the result; None: that of x and the parameters together.
      param_dtype: of γ and β.
      scale_init: how γ is drawn.
      bias_init: how β is drawn.
    """

    use_running_average: bool
    relu: bool = False
    group_size: int | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = None
    param_dtype: Any = jnp.float32
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    bias_init: nn.initializers.Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the normalised x, [N, ..., C].

        Raises:
          InputError: N is no multiple of the group size (in training).
        """
        channels = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = self.param("scale", self.scale_init, channels, self.param_dtype)
        bias = self.param("bias", self.bias_init, channels, self.param_dtype)
        dtype = self.dtype or jnp.result_type(x, scale, bias)
        if self.use_running_average:
            return normalize(
                x, mean.value, var.value, scale, bias, self.epsilon, self.relu, dtype
            )
        groups = self._number_of_groups(x.shape[0])
        # Without groups no axis of them: XLA:CPU would keep x in both shapes.
        split = (groups, x.shape[0] // groups) if groups > 1 else x.shape[:1]
        grouped = x.reshape(*split, *x.shape[1:])
        axes = tuple(range(len(split) - 1, grouped.ndim - 1))
        y, batch_mean, batch_var = batch_normalize(
            grouped, scale, bias, axes, self.epsilon, self.relu, dtype
        )
        if not self.is_initializing():
            for running, value in ((mean, batch_mean), (var, batch_var)):
                value = jax.lax.stop_gradient(value).reshape(groups, -1).mean(0)
                running.value = (
                    self.momentum * running.value + (1 - self.momentum) * value
                )
        return y.reshape(x.shape)

    def _number_of_groups(self, samples: int) -> int:
        # Initialisation runs on any batch: it keeps nothing of it.
        if self.group_size is None or self.is_initializing():
            return 1
        if self.group_size < 1 or samples % self.group_size:
            raise InputError(
                f"BatchNorm's group_size {self.group_size} does not divide the batch "
                f"of {samples}: change one of them"
            )
        return samples // self.group_size


@functools.partial(jax.jit, static_argnums=(5, 6, 7))
def normalize(
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    relu: bool,
    dtype: Any,
) -> jax.Array:
    """Return scale (x - mean) / √(var + epsilon) + bias, then maybe its ReLU.

    Args:
      x: [..., C].
      mean: [C], or any shape that broadcasts against x after leading axes.
      var: as ``mean``.
      scale: [C].
      bias: [C].
      epsilon: added to the variance.
      relu: whether a ReLU follows.
      dtype: of the result.

    Returns:
      x's shape.
    """
    inverse = jax.lax.rsqrt(var + epsilon)
    multiplier = _over_channels(scale, inverse) * inverse
    shifted = x.astype(multiplier.dtype) - _over_channels(mean, x)
    y = shifted * _over_channels(multiplier, x) + _over_channels(bias, x)
    return (jnp.maximum(y, 0) if relu else y).astype(dtype)


def _batch_normalize(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    axes: tuple[int, ...],
    epsilon: float,
    relu: bool,
    dtype: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalise x with its own mean and variance over some axes.

    Only y is differentiable: the gradient with respect to the moments is taken as 0.

    Args:
      x: [N, ..., C], or [G, N/G, ..., C] with G groups.
      scale: [C].
      bias: [C].
      axes: of x, over which a mean and a variance is taken.
      epsilon: added to the variance.
      relu: whether a ReLU follows.
      dtype: of the result.

    Returns:
      y in x's shape, means and biased variances in that shape with 1 for each of
      ``axes``.
    """
    precise = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = precise.mean(axes, keepdims=True)
    var = (precise * precise).mean(axes, keepdims=True) - mean * mean
    var = jnp.maximum(var, 0)  # rounding can make it slightly negative
    return normalize(x, mean, var, scale, bias, epsilon, relu, dtype), mean, var


batch_normalize = jax.custom_vjp(_batch_normalize, nondiff_argnums=(3, 4, 5, 6))


def _forward(x, scale, bias, axes, epsilon, relu, dtype):
    y, mean, var = batch_normalize(x, scale, bias, axes, epsilon, relu, dtype)
    inverse = jax.lax.rsqrt(var + epsilon)
    # The operation that follows keeps y for its own gradient: the mask is free.
    return (y, mean, var), (x, y if relu else None, mean, inverse, scale, bias)


def _backward(axes, epsilon, relu, dtype, residuals, cotangents):
    """Return the gradients with respect to x, scale and bias.

    With x̂ = (x - mean) / √(var + ε), g the gradient at the ReLU's input and M elements
    a group: dβ = Σ g, dγ = Σ g x̂, dx = γ / √(var + ε) (g - dβ/M - x̂ dγ/M). Neither
    x̂ nor g x̂ is formed: dγ = (Σ g x - mean Σ g) / √(var + ε), and dx = a g + b x + c
    with numbers a, b, c for each channel.
    """
    x, y, mean, inverse, scale, bias = residuals
    g = cotangents[0].astype(mean.dtype)
    if y is not None:
        g = jnp.where(y > 0, g, 0)
    input_dtype, x = x.dtype, x.astype(mean.dtype)
    bias_gradient = g.sum(axes, keepdims=True)
    scale_gradient = inverse * ((g * x).sum(axes, keepdims=True) - mean * bias_gradient)
    count = math.prod(x.shape[axis] for axis in axes)
    a = _over_channels(scale, inverse) * inverse
    b = -a * inverse * scale_gradient / count
    c = -a * bias_gradient / count - b * mean
    channels = x.shape[-1:]
    return (
        (a * g + b * x + c).astype(input_dtype),
        scale_gradient.reshape(-1, *channels).sum(0).astype(scale.dtype),
        bias_gradient.reshape(-1, *channels).sum(0).astype(bias.dtype),
    )


batch_normalize.defvjp(_forward, _backward)


def _over_channels(vector: jax.Array, like: jax.Array) -> jax.Array:
    """Give a [C] vector leading axes of size 1, to broadcast against ``like``."""
    return vector.reshape((1,) * (like.ndim - vector.ndim) + vector.shape)
