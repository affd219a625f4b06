"""The operator T of a convolutional stage: what one layer of a recurrence computes."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.structures import template

Factory = Callable[..., nn.Module]
"""A partial made once in the network, called with what differs from unit to unit."""


class BasicUnit(nn.Module):
    """conv3×3-BN-ReLU-conv3×3-BN: the T of §6.1, "according to ResNet".

    Attributes:
        features: output channels.
        conv: makes a convolution, ``conv(features, kernel_size, strides, name=...)``.
        norm: makes a normalisation, ``norm(relu=..., name=...)``.
        strides: of the first convolution.
        relu: end with a ReLU. (7) and (17) need it, since nothing but T stands between
            one layer and the next there.
    """

    features: int
    conv: Factory
    norm: Factory
    strides: int = 1
    relu: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return T(x), [B, H, W, C] to [B, H/strides, W/strides, features]."""
        x = self.conv(self.features, 3, self.strides, name="conv_0")(x)
        x = self.norm(relu=True, name="norm_0")(x)
        x = self.conv(self.features, 3, name="conv_1")(x)
        return self.norm(relu=self.relu, name="norm_1")(x)


class ConvUnit(BasicUnit):
    """conv3×3-BN, one weight layer a unit; fields as in :class:`BasicUnit`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return T(x), [B, H, W, C] to [B, H/strides, W/strides, features]."""
        x = self.conv(self.features, 3, self.strides, name="conv_0")(x)
        return self.norm(relu=self.relu, name="norm_0")(x)


class BottleneckUnit(BasicUnit):
    """1×1-BN-ReLU-3×3-BN-ReLU-1×1-BN over a quarter of the channels (ResNet-50).

    The fields are those of :class:`BasicUnit`; ``features`` counts the output, and the
    3×3 convolution has the stride.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return T(x), [B, H, W, C] to [B, H/strides, W/strides, features]."""
        if self.features % 4:
            raise InputError(
                f"a bottleneck needs a number of channels that 4 divides, "
                f"got {self.features}: change widths"
            )
        x = self.conv(self.features // 4, 1, name="conv_0")(x)
        x = self.norm(relu=True, name="norm_0")(x)
        x = self.conv(self.features // 4, 3, self.strides, name="conv_1")(x)
        x = self.norm(relu=True, name="norm_1")(x)
        x = self.conv(self.features, 1, name="conv_2")(x)
        return self.norm(relu=self.relu, name="norm_2")(x)


class PreActivationUnit(BasicUnit):
    """BN-ReLU-conv3×3-BN-ReLU-conv3×3, He's second ResNet.

    The fields are those of :class:`BasicUnit`; it ends with a convolution whatever
    ``relu`` says unless that is True, which adds one.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return T(x), [B, H, W, C] to [B, H/strides, W/strides, features]."""
        x = self.norm(relu=True, name="norm_0")(x)
        x = self.conv(self.features, 3, self.strides, name="conv_0")(x)
        x = self.norm(relu=True, name="norm_1")(x)
        x = self.conv(self.features, 3, name="conv_1")(x)
        return nn.relu(x) if self.relu else x


BLOCKS: dict[str, type[BasicUnit]] = {
    "basic": BasicUnit,
    "conv": ConvUnit,
    "bottleneck": BottleneckUnit,
    "pre_activation": PreActivationUnit,
}
"""Name -> unit, for the field ``block`` of a network."""


class Shortcut(nn.Module):
    """S(x): x made to fit where the shape changes.

    Attributes:
        kind: "pad", a strided slice with zero channels appended (He's option A), or
            "projection", 1×1 convolution and BN.
        features: output channels.
        conv: as in :class:`BasicUnit`.
        norm: as in :class:`BasicUnit`.
        strides: of the slice or the convolution.
    """

    kind: str
    features: int
    conv: Factory
    norm: Factory
    strides: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return S(x), [B, H, W, C] to [B, H/strides, W/strides, features]."""
        if self.kind == "projection":
            x = self.conv(self.features, 1, self.strides, name="conv")(x)
            return self.norm(relu=False, name="norm")(x)
        missing = self.features - x.shape[-1]
        if missing < 0:
            raise InputError(
                f'shortcut="pad" cannot take {x.shape[-1]} channels to '
                f'{self.features}: use shortcut="projection"'
            )
        x = x[:, :: self.strides, :: self.strides]
        return jax.numpy.pad(x, ((0, 0), (0, 0), (0, 0), (0, missing)))


class Transition(nn.Module):
    """x ↦ (T(x), S(x)): the first unit of a stage whose shape changes.

    Attributes:
        unit: makes T, which has the stride, ``unit(parent=...)``.
        shortcut: makes S, or None for a structure without skip connections.
    """

    unit: Factory
    shortcut: Factory | None

    @nn.compact
    def __call__(
        self, x: jax.Array, **inputs: Any
    ) -> tuple[jax.Array, jax.Array | None]:
        """Return T(x) and S(x), None without a shortcut; T takes the inputs, too."""
        transformed = template.make(self.unit, "unit")(x, **inputs)
        if self.shortcut is None:
            return transformed, None
        return transformed, self.shortcut(name="shortcut")(x)
