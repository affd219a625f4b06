"""How weights are drawn (§7.1), without minutes of compiling."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def scaled_normal(
    key: jax.Array, shape: Sequence[int], stddev: float, dtype: Any
) -> jax.Array:
    """Return ``stddev * jax.random.normal(key, shape, dtype)``, compiled faster.

    XLA's CPU backend compiles for seconds for a random array of four axes, anew for
    each shape: DenseNet-40 has 39 of them. A vector takes a fraction of that, and the
    generator's n-th number does not depend on how many are drawn. So a vector as long
    as the next power of two is drawn and cut: a network has few of those lengths.
    """
    shape = tuple(map(int, shape))  # NumPy's have no bit_length
    size = math.prod(shape)
    if not jax.config.jax_threefry_partitionable:  # pyright: ignore
        # The older generator's numbers do depend on it.
        return jax.random.normal(key, shape, dtype) * jnp.asarray(stddev, dtype)
    drawn = jax.random.normal(key, (1 << max(size - 1, 0).bit_length(),), dtype)
    return _cut(drawn, jnp.asarray(stddev, dtype), shape)


@functools.partial(jax.jit, static_argnums=2)
def _cut(drawn: jax.Array, stddev: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return drawn[: math.prod(shape)].reshape(shape) * stddev


def he_normal(
    key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32
) -> jax.Array:
    """Draw a convolution's kernel from N(0, 2 / fan_out) (He et al. 2015, eq. 14).

    The values are those of flax's ``variance_scaling(2, "fan_out", "normal")``.

    Args:
        key: PRNG key.
        shape: [height, width, input channels, output channels]; fan_out is the product
            of all but the third.
        dtype: of the result.
    """
    fan_out = math.prod(shape[:-2]) * shape[-1]
    return scaled_normal(key, shape, math.sqrt(2 / fan_out), dtype)


def xavier_normal(
    key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32
) -> jax.Array:
    """Draw a matrix from N(0, 2 / (inputs + outputs)) (Glorot and Bengio 2010)."""
    return scaled_normal(key, shape, math.sqrt(2 / sum(shape)), dtype)
