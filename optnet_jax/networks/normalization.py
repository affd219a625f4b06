"""Batch normalisation, with the ReLU after it and a backward pass written by hand."""

from __future__ import annotations

import functools
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
        grouped = x.reshape(groups, x.shape[0] // groups, *x.shape[1:])
        y, batch_mean, batch_var = batch_normalize(
            grouped, scale, bias, self.epsilon, self.relu, dtype
        )
        if not self.is_initializing():
            for running, value in ((mean, batch_mean), (var, batch_var)):
                value = jax.lax.stop_gradient(value).mean(0)
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def batch_normalize(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    relu: bool,
    dtype: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalise each group of samples with its own mean and variance.

    Only y is differentiable: the gradient with respect to the moments is taken as 0.

    Args:
      x: [G, N/G, ..., C], G groups.
      scale: [C].
      bias: [C].
      epsilon: added to the variance.
      relu: whether a ReLU follows.
      dtype: of the result.

    Returns:
      y in x's shape, and the groups' means and biased variances, [G, C] each.
    """
    mean, var = _moments(x)
    axes = tuple(range(1, x.ndim - 1))
    y = normalize(
        x,
        jnp.expand_dims(mean, axes),
        jnp.expand_dims(var, axes),
        scale,
        bias,
        epsilon,
        relu,
        dtype,
    )
    return y, mean, var


def _forward(x, scale, bias, epsilon, relu, dtype):
    y, mean, var = batch_normalize(x, scale, bias, epsilon, relu, dtype)
    return (y, mean, var), (x, mean, jax.lax.rsqrt(var + epsilon), scale, bias)


def _backward(epsilon, relu, dtype, residuals, cotangents):
    """Return the gradients with respect to x, scale and bias.

    With x̂ = (x - mean) / √(var + ε) and g the gradient at the ReLU's input:
    dβ = Σ g, dγ = Σ g x̂, dx = γ / √(var + ε) (g - dβ/M - x̂ dγ/M), M elements a group.
    """
    x, mean, inverse, scale, bias = residuals
    axes = tuple(range(1, x.ndim - 1))
    mean, inverse = jnp.expand_dims(mean, axes), jnp.expand_dims(inverse, axes)
    normalized = (x.astype(mean.dtype) - mean) * inverse
    g = cotangents[0].astype(mean.dtype)
    if relu:
        y = normalized * _over_channels(scale, x) + _over_channels(bias, x)
        g = jnp.where(y > 0, g, 0)
    bias_gradient = g.sum(axes, keepdims=True)
    scale_gradient = (g * normalized).sum(axes, keepdims=True)
    count = x.size // (x.shape[0] * x.shape[-1])
    dx = (g - bias_gradient / count - normalized * (scale_gradient / count)) * (
        _over_channels(scale, inverse) * inverse
    )
    total = tuple(range(x.ndim - 1))
    return (
        dx.astype(x.dtype),
        scale_gradient.sum(total).astype(scale.dtype),
        bias_gradient.sum(total).astype(bias.dtype),
    )


batch_normalize.defvjp(_forward, _backward)


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return mean and biased variance of each group, [G, C], in one pass over x."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(1, x.ndim - 1))
    mean = x.mean(axes)
    var = (x * x).mean(axes) - mean * mean
    return mean, jnp.maximum(var, 0)  # rounding can make it slightly negative


def _over_channels(vector: jax.Array, like: jax.Array) -> jax.Array:
    """Give a [C] vector leading axes of size 1, to broadcast against ``like``."""
    return vector.reshape((1,) * (like.ndim - vector.ndim) + vector.shape)
