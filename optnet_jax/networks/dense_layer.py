"""Σ_j α_j T_j(z_j) with T = BN-ReLU-conv: what AGD-Net and DenseNet combine (§6.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

from optnet_jax.ops.convolution import same_convolution
from optnet_jax.ops.initializers import he_normal


class ScaledConv(nn.Module):
    """Convolution without bias whose kernel's input channels can be scaled.

    Attributes:
      features: the number of output channels.
      kernel_size: (height, width), "same" padding for odd sizes.
      dtype: of the computation; None: that of input and kernel together.
      operation: of x and the kernel.
    """

    features: int
    kernel_size: tuple[int, int]
    dtype: Any = None
    operation: Callable[..., jax.Array] = same_convolution

    @nn.compact
    def __call__(self, x: jax.Array, scale: jax.Array | None = None) -> jax.Array:
        """Return the convolution of x, [B, H, W, C], with scale [C] on the kernel."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", he_normal, shape)
        if scale is not None:
            kernel = kernel * scale.astype(kernel.dtype)[None, None, :, None]
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        return self.operation(x, kernel)


class _Combination(nn.Module):
    """Fields of both forms of the combination."""

    features: int
    norm: Any
    bottleneck: int = 0
    dropout_rate: float = 0.0
    train: bool = False
    dtype: Any = None

    def _dropped(self, x: jax.Array) -> jax.Array:
        if not (self.dropout_rate and self.train):
            return x
        return nn.Dropout(self.dropout_rate, deterministic=False)(x)


class FusedCombination(_Combination):
    """Σ_j α_j conv_j(ReLU(BN_j(z_j))) as one convolution.

    A convolution of concatenated inputs is the sum of the convolutions of each with its
    slice of the kernel, so α_j enters as a factor of that slice. DenseNet's layer is
    α ≡ 1.

    With a bottleneck, T_j is BN-ReLU-1×1 and the sum goes through one BN-ReLU-3×3 that
    all sources share: DenseNet-B at α ≡ 1.

    Attributes:
      features: output channels (the growth rate).
      norm: makes the normalisation with the ReLU, called with ``name=``; it takes
        parts of a concatenation, as :class:`~.normalization.BatchNorm` does.
      bottleneck: channels between the 1×1 and the 3×3 convolution; 0: no bottleneck.
      dropout_rate: share of the activations that training drops after each convolution:
        of the sum over j, not of its terms. DenseNet's recipe is 0.2 on CIFAR without
        augmentation.
      train: whether to drop.
      dtype: of the computation.
    """

    @nn.compact
    def __call__(self, sources: Sequence[jax.Array], alpha: Any = None) -> jax.Array:
        """Return the combination.

        Args:
          sources: z_0..z_k, [B, H, W, C_j].
          alpha: α_0..α_k, or None for ones.

        Returns:
          [B, H, W, features].
        """
        scale = None if alpha is None else _per_channel(alpha, sources)
        if not self.bottleneck:
            conv = ScaledConv(self.features, (3, 3), self.dtype, name="conv")
            return self._dropped(conv(self.norm(name="norm")(sources), scale))
        conv = ScaledConv(self.bottleneck, (1, 1), self.dtype, name="conv1")
        x = self._dropped(conv(self.norm(name="norm1")(sources), scale))
        conv = ScaledConv(self.features, (3, 3), self.dtype, name="conv2")
        return self._dropped(conv(self.norm(name="norm2")(x)))


class PairwiseCombination(_Combination):
    """Σ_j α_j conv_j(ReLU(BN_j(z_j))), one convolution for each source.

    (21) as it is printed: slow to compile and to run, kept as what
    :class:`FusedCombination` must equal. Source j has the parameters ``norm_j`` and
    ``conv_j`` (``norm1_j``, ``conv1_j`` with a bottleneck), slices of the fused ones:
    see :func:`pairwise_from_fused`. The fields are the same.
    """

    @nn.compact
    def __call__(self, sources: Sequence[jax.Array], alpha: Any = None) -> jax.Array:
        """Return the combination, see :class:`FusedCombination`."""
        suffix, size = ("1", 1) if self.bottleneck else ("", 3)
        features = self.bottleneck or self.features
        x = jnp.zeros((), sources[0].dtype)
        for j, z in enumerate(sources):
            conv = ScaledConv(
                features, (size, size), self.dtype, name=f"conv{suffix}_{j}"
            )
            transformed = conv(self.norm(name=f"norm{suffix}_{j}")(z))
            if alpha is not None:
                transformed = transformed * jnp.asarray(alpha[j], transformed.dtype)
            x = transformed if j == 0 else x + transformed
        x = self._dropped(x)
        if not self.bottleneck:
            return x
        conv = ScaledConv(self.features, (3, 3), self.dtype, name="conv2")
        return self._dropped(conv(self.norm(name="norm2")(x)))


def pairwise_from_fused(fused: Any, channels: Sequence[int]) -> dict[str, Any]:
    """Split a layer's variables of :class:`FusedCombination` into its sources'.

    Args:
      fused: one collection (``params`` or ``batch_stats``) of the layer.
      channels: C_0..C_k, the channels of its sources.

    Returns:
      The same collection for :class:`PairwiseCombination`.
    """
    ends = np.cumsum(channels)[:-1]
    result = {}
    for name, leaves in fused.items():
        if name in ("norm2", "conv2"):
            result[name] = leaves
            continue
        # The input channels are a kernel's third axis and a norm's only one.
        axis = 2 if name.startswith("conv") else 0
        parts = {key: jnp.split(leaf, ends, axis) for key, leaf in leaves.items()}
        for j in range(len(channels)):
            result[f"{name}_{j}"] = {key: part[j] for key, part in parts.items()}
    return result


def _per_channel(alpha: Any, sources: Sequence[jax.Array]) -> jax.Array:
    """Repeat α_j over the channels of source j, [C_0 + ... + C_k]."""
    # The product with a constant indicator: exact, one small operation each way, where
    # jnp.repeat compiles a cumulative sum, a gather and a scatter for every layer.
    channels = [z.shape[-1] for z in sources]
    indicator = np.repeat(np.eye(len(sources)), channels, axis=1)
    alpha = jnp.asarray(alpha)
    return jnp.dot(alpha, indicator.astype(alpha.dtype), precision="highest")
