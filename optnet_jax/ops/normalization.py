"""Batch normalisation, with the ReLU after it and a backward pass written by hand."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.ops.gradient import with_gradient


class Neighbours:
    """Concatenations that several layers have in common, each made once.

    Three neighbouring parts make one, three of those the next larger one. The layers of
    a dense block, whose parts begin alike, so take few pieces, most of them the same;
    a TPU otherwise writes the whole of more than four parts anew for every layer. Of
    two, three and four neighbours at a time, three make it move the least.
    """

    def __init__(self):
        self._made = {}

    def __call__(self, parts: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        """Return the pieces of the parts' concatenation."""
        whole = len(parts) // 3 * 3
        if not whole:
            return parts
        joined = (self._join(parts[i : i + 3]) for i in range(0, whole, 3))
        return self(tuple(joined)) + parts[whole:]

    def _join(self, parts: tuple[jax.Array, ...]) -> jax.Array:
        key = tuple(map(id, parts))  # of arrays that live as long as the key
        if key not in self._made:
            self._made[key] = parts, _join(*parts)
        return self._made[key][1]


@jax.custom_jvp
def _join(*parts: jax.Array) -> jax.Array:
    # Without a barrier XLA makes the steps one again.
    return jax.lax.optimization_barrier(jnp.concatenate(parts, -1))


@_join.defjvp
def _join_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _join(*primals), jnp.concatenate(tangents, -1)


class BatchNorm(nn.Module):
    """y = γ (x - mean) / √(var + ε) + β over all axes but the last, then maybe ReLU.

    It has ``nn.BatchNorm``'s variables (params ``scale``, ``bias``; batch_stats
    ``mean``, ``var``) and its values. What differs is the backward pass: autodiff
    writes out x - mean, its product with γ / √(var + ε) and the ReLU's mask, here the
    input alone is kept and the gradient is the closed form (Ioffe and Szegedy 2015).

    x may come in parts that are concatenated along the channels, as the layers of a
    dense block take the outputs of all layers before. Moments are then computed part by
    part, so that XLA, which merges equal operations, computes those of a part once for
    all the layers that normalise it, and reads it once for the gradients that come from
    them.

    Statistics are float32 at least, whatever the dtype of x; the running variance is
    the biased one. The running statistics carry no gradient.

    Attributes:
        use_running_average: normalise with the running statistics (evaluation) instead
            of the batch's.
        relu: follow with a ReLU.
        group_size: the number of consecutive samples that one mean and variance is
            taken over; None: the whole batch. §7.1's "256 among 4 GPUs" is 64. The
            running statistics move towards the mean over the groups.
        momentum: weight of the old running statistics in an update.
        epsilon: ε, added to the variance.
        dtype: of the result; None: that of x and the parameters together.
        neighbours: makes the pieces of x that other layers take, too; None: none do.
    """

    use_running_average: bool
    relu: bool = False
    group_size: int | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = None
    neighbours: Neighbours | None = None

    @nn.compact
    def __call__(self, x: jax.Array | Sequence[jax.Array]) -> jax.Array:
        """Return the normalised x, [N, ..., C].

        Args:
            x: [N, ..., C], or its parts, [N, ..., C_j] with C = Σ_j C_j.

        Raises:
            InputError: N is no multiple of the group size (in training).
        """
        parts = (x,) if isinstance(x, jax.Array | np.ndarray) else tuple(x)
        shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
        channels = shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        dtype = self.dtype or jnp.result_type(*parts, scale, bias)
        if self.use_running_average:
            x = jnp.concatenate(parts, -1)
            return normalize(
                x, mean.value, var.value, scale, bias, self.epsilon, self.relu, dtype
            )
        groups = self._number_of_groups(shape[0])
        options = (groups, self.epsilon, self.relu, dtype)
        pieces = ()
        if self.neighbours and not self.is_initializing():
            pieces = self.neighbours(parts)
        y, batch_mean, batch_var = batch_normalize(parts, scale, bias, *options, pieces)
        if not self.is_initializing():
            for running, value in ((mean, batch_mean), (var, batch_var)):
                value = jax.lax.stop_gradient(value).reshape(-1, *channels).mean(0)
                running.value = (
                    self.momentum * running.value + (1 - self.momentum) * value
                )
        return y

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


def batch_normalize(
    parts: tuple[jax.Array, ...],
    scale: jax.Array,
    bias: jax.Array,
    groups: int,
    epsilon: float,
    relu: bool,
    dtype: Any,
    pieces: tuple[jax.Array, ...] = (),
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalise concatenated parts with mean and variance of each group of samples.

    Arguments are as of :func:`normalize`, with x in parts [N, ..., C_j], the number
    of groups a divisor of N, and larger pieces of x, which are taken instead of the
    parts where the program runs on no CPU. Returns y in x's shape, means and biased
    variances, [R, 1, ..., C]: of the only group, R = 1, or each sample's, R = N.
    """
    pieces = pieces if len(pieces) < len(parts) else ()
    run = _batch_normalization(groups, epsilon, relu, dtype)
    return run(parts, pieces, scale, bias)


@functools.cache
def _batch_normalization(
    groups: int, epsilon: float, relu: bool, dtype: Any
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    @jax.jit
    def normalized(parts, scale, bias):
        moments = [_moments(part, groups) for part in parts]
        mean, var = (jnp.concatenate(of, -1) for of in zip(*moments, strict=True))
        x = jnp.concatenate(parts, -1)
        return normalize(x, mean, var, scale, bias, epsilon, relu, dtype), mean, var

    def run(parts, pieces, *others):
        if not pieces:
            return normalized(parts, *others)
        return jax.lax.platform_dependent(
            parts,
            pieces,
            *others,
            cpu=lambda parts, pieces, *others: normalized(parts, *others),
            default=lambda parts, pieces, *others: normalized(pieces, *others),
        )

    def forward(parts, pieces, scale, bias):
        y, mean, var = run(parts, pieces, scale, bias)
        inverse = jax.lax.rsqrt(var + epsilon)
        # The operation that follows keeps y for its own gradient: the mask is free.
        kept = y if relu else None, mean, inverse, scale, bias
        return (y, mean, var), (parts, pieces, kept)

    def backward(residuals, cotangents):
        parts, pieces, kept = residuals
        if not pieces:
            of_parts, *others = _gradients(groups, parts, kept, cotangents)
            return of_parts, (), *others

        def by_parts(parts, pieces, *others):
            of_parts, *others = _gradients(groups, parts, *others)
            return of_parts, tuple(map(jnp.zeros_like, pieces)), *others

        def by_pieces(parts, pieces, *others):
            of_pieces, *others = _gradients(groups, pieces, *others)
            return tuple(map(jnp.zeros_like, parts)), of_pieces, *others

        return jax.lax.platform_dependent(
            parts, pieces, kept, cotangents, cpu=by_parts, default=by_pieces
        )

    return with_gradient(run, forward, backward)


@functools.partial(jax.jit, static_argnums=1)
def _moments(x: jax.Array, groups: int) -> tuple[jax.Array, jax.Array]:
    """Return mean and biased variance of each group, [R, 1, ..., C]."""
    precise = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = _summed(x, groups)
    rows = (v.mean(axes, keepdims=True) for v in (precise, precise * precise))
    mean, square = _over_groups(rows, groups, jnp.mean)
    return mean, jnp.maximum(square - mean * mean, 0)  # rounding can make it negative


def _summed(x: jax.Array, groups: int) -> tuple[int, ...]:
    """Return the axes that a group is summed over first: of each sample, if of several.

    To split the batch's axis of x into groups would cost a copy of x on a TPU, which
    lays the batch out along its vectors. The sums of each sample are small.
    """
    return tuple(range(groups > 1, x.ndim - 1))


def _over_groups(
    rows: Iterable[jax.Array], groups: int, reduce: Callable[..., jax.Array]
) -> Iterable[jax.Array]:
    """Reduce the rows of a group, [N, 1, ..., C], and give each sample the result.

    They are reduced side by side. Of a sum of sums alone XLA makes another sum over x,
    and a TPU then writes out what several sums of different shapes are taken of.
    """
    if groups == 1:
        return rows
    split = [row.reshape(groups, -1, *row.shape[1:]) for row in rows]
    reduced = reduce(jnp.concatenate(split, -1), axis=1, keepdims=True)
    return [
        jnp.broadcast_to(part, whole.shape).reshape(-1, *whole.shape[2:])
        for part, whole in zip(jnp.split(reduced, len(split), -1), split, strict=True)
    ]


@functools.partial(jax.jit, static_argnums=0)
def _gradients(groups, parts, kept, cotangents):
    """Return the gradients with respect to the parts of x, scale and bias.

    With x̂ = (x - mean) / √(var + ε), g the gradient at the ReLU's input and M elements
    a group: dβ = Σ g, dγ = Σ g x̂, dx = γ / √(var + ε) (g - dβ/M - x̂ dγ/M). Neither
    x̂ nor g x̂ is formed: dγ = (Σ g x - mean Σ g) / √(var + ε), and dx = a g + b x + c
    with numbers a, b, c for each channel. The moments, which second derivatives go
    through, add dmean/M + 2 (x - mean) dvar/M.
    """
    y, mean, inverse, scale, bias = kept
    g, mean_gradient, var_gradient = cotangents
    precise = mean.dtype
    if y is not None:
        g = jnp.where(y > 0, g, 0)
    x = jnp.concatenate(parts, -1).astype(precise)
    axes = _summed(x, groups)
    bias_rows = g.astype(precise).sum(axes, keepdims=True)
    products = (g.astype(precise) * x).sum(axes, keepdims=True)
    scale_rows = inverse * (products - mean * bias_rows)
    rows = scale_rows, bias_rows
    of_moments = mean_gradient, var_gradient
    scale_gradient, bias_gradient = _over_groups(rows, groups, jnp.sum)
    mean_gradient, var_gradient = _over_groups(of_moments, groups, jnp.sum)
    count = math.prod(x.shape[:-1]) // groups
    a = _over_channels(scale, inverse) * inverse
    b = (2 * var_gradient - a * inverse * scale_gradient) / count
    c = (mean_gradient - a * bias_gradient) / count - b * mean
    total = jnp.concatenate(rows, -1).sum(tuple(range(x.ndim - 1)))
    of_scale, of_bias = jnp.split(total, 2)
    ends = np.cumsum([part.shape[-1] for part in parts])[:-1]
    # g is split in its own precision: what is kept of it for several parts is half.
    pieces = zip(*(jnp.split(v, ends, -1) for v in (g, a, b, c)), strict=True)
    return (
        tuple(
            (a * g.astype(precise) + b * part.astype(precise) + c).astype(part.dtype)
            for part, (g, a, b, c) in zip(parts, pieces, strict=True)
        ),
        of_scale.astype(scale.dtype),
        of_bias.astype(bias.dtype),
    )


def _over_channels(vector: jax.Array, like: jax.Array) -> jax.Array:
    """Give a [C] vector leading axes of size 1, to broadcast against ``like``."""
    return vector.reshape((1,) * (like.ndim - vector.ndim) + vector.shape)
