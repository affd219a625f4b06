"""The parts of a vision transformer: patches, and the branches of a residual layer."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.networks.activation import GELU, activation
from optnet_jax.ops.initializers import scaled_normal, xavier_normal

EPSILON = 1e-6
"""Of every layer normalisation, as in the published vision transformers."""


def embedding(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
    """Draw from N(0, 0.02²), as positions and class tokens are."""
    return scaled_normal(key, shape, 0.02, dtype)


def patch_kernel(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
    """Draw from N(0, 1 / fan_in): each patch is one matrix product."""
    return scaled_normal(key, shape, 1 / math.sqrt(math.prod(shape[:-1])), dtype)


class PatchStem(nn.Module):
    """Patches as tokens, a class token before them, and a learned position for each.

    Attributes:
        width: channels of a token.
        patch_size: height and width of a patch.
        class_token: put one first.
        dtype: of the product; the tokens are float32, or of the position's type.
    """

    width: int
    patch_size: int
    class_token: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Return the tokens, [B, H W / patch_size² (+ 1), width]."""
        size = (self.patch_size, self.patch_size)
        conv = nn.Conv(
            self.width,
            size,
            size,
            padding="VALID",
            dtype=self.dtype,
            kernel_init=patch_kernel,
            name="conv",
        )
        x = conv(images)
        x = x.reshape(x.shape[0], -1, self.width)
        if self.class_token:
            shape, zeros = (1, 1, self.width), nn.initializers.zeros
            token = self.param("class_token", zeros, shape, jnp.float32)
            token = jnp.broadcast_to(token, (x.shape[0], 1, self.width))
            x = jnp.concatenate([token.astype(x.dtype), x], 1)
        shape = (1, *x.shape[1:])
        if self.has_variable("params", "position"):
            there = np.shape(self.get_variable("params", "position"))
            if there != shape:
                raise InputError(
                    f"images of {images.shape[1]}x{images.shape[2]} make "
                    f"{shape[1]} tokens, and the network has positions for "
                    f"{there[1]}: give it images of the size that it was made for"
                )
        return x + self.param("position", embedding, shape)


class Branch(nn.Module):
    """G(x) of a residual layer x + G(x): normalise, then compute.

    Attributes:
        width: channels of a token.
        dropout_rate: share of what G returns that training drops.
        drop_path: probability that training leaves an image without G.
        dtype: of the computation.
    """

    width: int
    dropout_rate: float = 0.0
    drop_path: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Return G(x), [B, N, width]."""
        y = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="norm")(x)
        y = self.computed(y, train)
        if self.dropout_rate:
            y = nn.Dropout(self.dropout_rate, deterministic=not train)(y)
        if self.drop_path:
            path = nn.Dropout(self.drop_path, (1, 2), deterministic=not train)
            y = path(y)
        return y

    def computed(self, x: jax.Array, train: bool) -> jax.Array:
        """Return what follows the normalisation."""
        raise NotImplementedError


class Attention(Branch):
    """norm-attention over the tokens; fields as in :class:`Branch`.

    Attributes:
        heads: the number of heads, which divides ``width``.
    """

    heads: int = 1

    def computed(self, x: jax.Array, train: bool) -> jax.Array:
        """Return the attention of the tokens among one another."""
        precision = jnp.finfo(self.dtype or x.dtype)
        attention = nn.MultiHeadDotProductAttention(
            self.heads,
            dtype=self.dtype,
            force_fp32_for_softmax=precision.bits < 32,
            deterministic=True,
            name="attention",
        )
        return attention(x)


class MLP(Branch):
    """norm-dense-Φ-dense for each token; fields as in :class:`Branch`.

    Attributes:
        hidden: channels between the two.
        activation: the name of Φ.
    """

    hidden: int = 1
    activation: str = GELU

    def computed(self, x: jax.Array, train: bool) -> jax.Array:
        """Return the MLP of each token."""
        dense = functools.partial(nn.Dense, kernel_init=xavier_normal, dtype=self.dtype)
        phi = activation(self.activation, "activation")
        x = phi(dense(self.hidden, name="dense_0")(x))
        if self.dropout_rate:
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return dense(self.width, name="dense_1")(x)


class Skip(nn.Module):
    """T(x) = x + G(x), or with two branches that G of which they are the layer.

    Attributes:
        branches: G, or A and M: x + A(x) =: y, then y + M(y).
        skip: return the layer's output; otherwise that less x.
    """

    branches: tuple[nn.Module, ...]
    skip: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Return T(x)."""
        y, total = x, None
        for branch in self.branches:
            g = branch(y, train).astype(y.dtype)
            y = y + g
            total = g if total is None else total + g
        return y if self.skip else total  # pyright: ignore
