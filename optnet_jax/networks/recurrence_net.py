"""A network of stages that all run one recurrence: ResNet, HB-Net and their kin."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.networks import fields
from optnet_jax.networks.images import check_images
from optnet_jax.networks.units import BLOCKS, Shortcut, Transition
from optnet_jax.ops.convolution import convolution
from optnet_jax.ops.initializers import xavier_normal
from optnet_jax.ops.normalization import BatchNorm
from optnet_jax.ops.pooling import max_pool
from optnet_jax.recurrences import Recurrence
from optnet_jax.structures.stage import Stage

UNROLLED_DEPTH = 18
"""Up to this many steps with weights of their own a stage is written out: it compiles
in seconds all the same."""


class RecurrenceNet(nn.Module):
    """Stem, stages that each run ``recurrence`` over convolutional units, classifier.

    Each stage after the first halves the resolution. Its first unit is the transition
    x_0 = T(x) + S(x), the others are steps of the recurrence, which starts afresh in
    every stage ("block based structure", §6).

    >>> import jax, jax.numpy as jnp
    >>> from optnet_jax.recurrences import NesterovSum
    >>> net = RecurrenceNet(NesterovSum(), stage_sizes=(2, 2), widths=(4, 8))
    >>> net.init_with_output(jax.random.key(0), jnp.ones((1, 8, 8, 3)))[0].shape
    (1, 10)

    Attributes:
      recurrence: the method, any :class:`~optnet_jax.recurrences.Recurrence`; a tuple
        has one for each stage.
      stage_sizes: the number of units of each stage, its transition included.
      widths: the number of channels of each stage.
      num_classes: the size of the output.
      block: T: "basic", "conv", "bottleneck" or "pre_activation", see
        :data:`~optnet_jax.networks.units.BLOCKS`, or a class with the fields of
        :class:`~optnet_jax.networks.units.BasicUnit`.
      unit_relu: T ends with a ReLU.
      stem: "cifar", a 3×3 convolution, or "imagenet", a 7×7 convolution with stride 2
        and a 3×3 pool with stride 2; with BN-ReLU after the convolution.
      stem_features: channels of the stem; None: those of the first stage.
      shortcut: S of the transitions: "pad" (He's option A), "projection" (1×1
        convolution and BN) or "none".
      start: x_{-1} in the first stage: "same", x_0, or "zero".
      boundary: x_{-1} in a stage after a transition: "shortcut", S(x); "same"; "zero".
      learned: names of the recurrence's coefficients that are trained, in each stage
        its own, one for each step.
      separate_paths: each path of a two-path method has weights of its own.
      tied: one set of weights for all steps of a stage.
      unroll: write the layers out (parameters ``layer_0``, ``layer_1``, ...) instead of
        scanning them (``layers`` with a leading axis of depth); None: stages of up to
        18 steps with weights of their own are written out, tied ones are scanned.
      remat: recompute each layer in the backward pass.
      reversible: recompute the iterates in the backward pass; scans every stage.
      batch_norm_group: the number of samples that BatchNorm's statistics are taken
        over; None: the whole batch.
      dtype: of the computation; parameters, statistics and logits stay in float32.

    Raises:
      InputError: fields that do not fit together, when the module is made.
    """

    recurrence: Any
    stage_sizes: tuple[int, ...] = (9, 9, 9)
    widths: tuple[int, ...] = (16, 32, 64)
    num_classes: int = 10
    block: str | Callable[..., nn.Module] = "basic"
    unit_relu: bool = False
    stem: str = "cifar"
    stem_features: int | None = None
    shortcut: str = "pad"
    start: str = "same"
    boundary: str = "shortcut"
    learned: tuple[str, ...] = ()
    separate_paths: bool = False
    tied: bool = False
    unroll: bool | None = None
    remat: bool = False
    reversible: bool = False
    batch_norm_group: int | None = None
    dtype: Any = None

    def __post_init__(self):
        fields.check_module(self)
        stages = len(self.stage_sizes)
        if len(self.widths) != stages:
            raise InputError(
                f"stage_sizes and widths need one entry for each stage, "
                f"got {tuple(self.stage_sizes)} and {tuple(self.widths)}"
            )
        if isinstance(self.recurrence, tuple) and len(self.recurrence) != stages:
            raise InputError(
                f"a tuple of recurrences needs one for each of the {stages} stages, "
                f"got {len(self.recurrence)}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Return the logits.

        Args:
          images: [B, H, W, C].
          train: use the batch's statistics.

        Returns:
          [B, num_classes] float32.

        Raises:
          InputError: images that are no [B, H, W, C] or too small for the network.
        """
        halvings = len(self.stage_sizes) - 1 + (2 if self.stem == "imagenet" else 0)
        check_images(images, 2**halvings)
        norm = functools.partial(
            BatchNorm,
            use_running_average=not train,
            group_size=self.batch_norm_group,
            dtype=self.dtype,
        )
        x = self._stem(images, norm)
        for i in range(len(self.stage_sizes)):
            x = self._stage(i, _channels(x), norm)(x)
        # Every path has been merged by the method's own read-out when its last state
        # is taken for a first one.
        last = self.stage_recurrence(len(self.stage_sizes) - 1)
        x = last.output(last.init(x)) if len(x) == 2 else x[0]
        # Without an activation after the sum, this is the one before the pooling;
        # after one it changes nothing.
        x = nn.relu(x).astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
        head = nn.Dense(
            self.num_classes,
            kernel_init=xavier_normal,
            name="head",
        )
        return head(x)

    def stage_recurrence(self, i: int) -> Recurrence:
        """Return the recurrence of stage i."""
        return (
            self.recurrence[i]
            if isinstance(self.recurrence, tuple)
            else (self.recurrence)
        )

    def _stem(self, images: jax.Array, norm: Any) -> jax.Array:
        imagenet = self.stem == "imagenet"
        conv = convolution(
            self.stem_features or self.widths[0],
            7 if imagenet else 3,
            2 if imagenet else 1,
            dtype=self.dtype,
            name="stem_conv",
        )
        x = norm(relu=True, name="stem_norm")(conv(images))
        if imagenet:
            x = max_pool(x)
        return x

    def _stage(self, i: int, channels: int, norm: Any) -> Stage:
        features = self.widths[i]
        strides = 1 if i == 0 else 2
        changes = strides != 1 or channels != features
        depth = self.stage_sizes[i] - changes
        unroll = self.unroll
        if unroll is None:
            unroll = depth <= UNROLLED_DEPTH and not self.tied
        unroll = unroll and not self.reversible
        conv = functools.partial(convolution, dtype=self.dtype)
        unit = self._block(features, norm)
        transition = None
        if changes:
            transition = functools.partial(
                Transition,
                functools.partial(unit, conv=conv, strides=strides),
                self._shortcut(features, conv, norm, strides),
            )
        recurrence = self.stage_recurrence(i)
        return Stage(
            recurrence,
            unit(conv=conv, parent=None),
            depth,
            transition,
            previous=self.boundary if changes else self.start,
            post_activation=getattr(recurrence, "post_activation", None),
            separate_paths=self.separate_paths,
            tied=self.tied,
            learned=self.learned,
            unroll=unroll,
            remat=self.remat,
            reversible=self.reversible,
            name=f"stage_{i}",
        )

    def _shortcut(self, *fields: Any) -> Callable[..., nn.Module] | None:
        if self.shortcut == "none":
            return None
        return functools.partial(Shortcut, self.shortcut, *fields)

    def _block(self, features: int, norm: Any) -> Callable[..., nn.Module]:
        block: Any = BLOCKS[self.block] if isinstance(self.block, str) else self.block
        return functools.partial(
            block, features=features, norm=norm, relu=self.unit_relu
        )


def _channels(x: Any) -> int:
    return jax.tree.leaves(x)[0].shape[-1]
