"""DenseNet and AGD-Net (§6.2): stem, dense stages with transitions, head."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.networks import fields
from optnet_jax.networks.dense_layer import FusedCombination, ScaledConv
from optnet_jax.networks.images import check_images
from optnet_jax.ops.initializers import he_normal, xavier_normal
from optnet_jax.ops.normalization import BatchNorm
from optnet_jax.ops.pooling import max_pool, mean_pool, mean_pooled_product
from optnet_jax.structures.dense_stage import DenseStage


class DenseNet(nn.Module):
    """Dense stages (21), each followed by its concatenation and a transition.

    The defaults are DenseNet's (k = 12, L = 40): α ≡ 1, β = 0. AGD-Net is
    ``learned=("alpha",), beta=0.1`` and nothing else.

    Attributes:
      stage_sizes: the number of layers of each stage; (L - 4) / 3 each for depth L.
      growth_rate: k, the channels of z_1, z_2, ...
      num_classes: the size of the output.
      stem: "cifar", a 3×3 convolution, or "imagenet", a 7×7 convolution with stride 2,
        BN-ReLU and a 3×3 pool with stride 2.
      stem_features: channels of the first stage's z_0.
      bottleneck: put a 1×1 convolution to 4 k channels before each 3×3 (DenseNet-B).
      compression: a transition's output channels by its input channels (DenseNet-C: ½).
      alpha: α, see :class:`~optnet_jax.structures.DenseStage`; a matrix fits every
        stage only where all are of one size.
      beta: β of (21).
      learned: which of "alpha" and "beta" are trained, in each stage its own.
      dropout_rate: after each convolution but the stem's; 0.2 on CIFAR without
        augmentation in DenseNet's recipe.
      batch_norm_group: the number of samples that BatchNorm's statistics are taken
        over; None: the whole batch.
      remat: recompute each layer in the backward pass instead of storing what is
        inside it.
      dtype: of the computation; parameters, statistics and logits stay in float32.

    Raises:
      InputError: a field out of its range, when the module is made.
    """

    stage_sizes: tuple[int, ...] = (12, 12, 12)
    growth_rate: int = 12
    num_classes: int = 10
    stem: str = "cifar"
    stem_features: int = 16
    bottleneck: bool = False
    compression: float = 1.0
    alpha: Any = 1.0
    beta: float = 0.0
    learned: tuple[str, ...] = ()
    dropout_rate: float = 0.0
    batch_norm_group: int | None = None
    remat: bool = False
    dtype: Any = None

    def __post_init__(self):
        fields.check_module(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Return the logits.

        Args:
          images: [B, H, W, C].
          train: use the batch's statistics and dropout.

        Returns:
          [B, num_classes] float32.

        Raises:
          InputError: images that are smaller than the network's down-sampling.
        """
        halvings = len(self.stage_sizes) - 1 + (2 if self.stem == "imagenet" else 0)
        check_images(images, smallest=2**halvings)
        norm = functools.partial(
            BatchNorm,
            use_running_average=not train,
            relu=True,
            group_size=self.batch_norm_group,
            dtype=self.dtype,
        )
        parts = self._stage(0, norm, train)(self._stem(images, norm))
        for i in range(1, len(self.stage_sizes)):
            channels = sum(part.shape[-1] for part in parts)
            x = self._transition(i - 1, norm, train, channels)(parts)
            parts = self._stage(i, norm, train)(x)
        x = norm(name="norm")(parts)
        # In float32 from here on: neither the mean nor the logits are rounded.
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
        return nn.Dense(self.num_classes, kernel_init=xavier_normal, name="head")(x)

    def _stem(self, images: jax.Array, norm: Any) -> jax.Array:
        imagenet = self.stem == "imagenet"
        conv = nn.Conv(
            self.stem_features,
            (7, 7) if imagenet else (3, 3),
            strides=2 if imagenet else 1,
            padding=3 if imagenet else 1,
            use_bias=False,
            kernel_init=he_normal,
            dtype=self.dtype,
            name="stem_conv",
        )
        x = conv(images)
        if not imagenet:
            return x
        return max_pool(norm(name="stem_norm")(x))

    def _stage(self, i: int, norm: Any, train: bool) -> DenseStage:
        combination = FusedCombination(
            self.growth_rate,
            norm,
            bottleneck=4 * self.growth_rate if self.bottleneck else 0,
            dropout_rate=self.dropout_rate,
            train=train,
            dtype=self.dtype,
            parent=None,
        )
        return DenseStage(
            combination,
            self.stage_sizes[i],
            alpha=self.alpha,
            beta=self.beta,
            learned=self.learned,
            remat=self.remat,
            name=f"stage_{i}",
        )

    def _transition(self, i: int, norm: Any, train: bool, channels: int) -> Transition:
        return Transition(
            int(channels * self.compression),
            norm,
            self.dropout_rate,
            train,
            self.dtype,
            name=f"transition_{i}",
        )


class Transition(nn.Module):
    """BN-ReLU-1×1 and 2×2 average pooling between two dense stages.

    Attributes:
      features: output channels.
      norm: makes the normalisation with the ReLU, called with ``name=``.
      dropout_rate: share of the activations that training drops.
      train: whether to drop.
      dtype: of the computation.
    """

    features: int
    norm: Any
    dropout_rate: float = 0.0
    train: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, parts: Sequence[jax.Array]) -> jax.Array:
        """Return half the height and width of x, rounded down.

        Args:
          parts: of x along the channels, [B, H, W, C_j].
        """
        conv = functools.partial(
            ScaledConv, self.features, (1, 1), self.dtype, name="conv"
        )
        x = self.norm(name="norm")(parts)
        if not (self.dropout_rate and self.train):
            return conv(operation=mean_pooled_product)(x)
        return mean_pool(nn.Dropout(self.dropout_rate, deterministic=False)(conv()(x)))
