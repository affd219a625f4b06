"""The networks in PyTorch, for the comparison: ResNet, HB-Net, DenseNet, AGD-Net.

Modules have the names of ours, so that weights are copied by name, see
:func:`optnet_jax.benchmarks.torch_runs.copy_weights`. AGD-Net has the fast form of
:class:`~optnet_jax.networks.dense_layer.DenseUnit` too: the comparison is of
frameworks, not of formulas.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from optnet_jax.recurrences.coefficients import momentum


def _conv(inputs: int, outputs: int, size: int, strides: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, strides, size // 2, bias=False)


class Unit(nn.Module):
    """T = conv3×3-BN-ReLU-conv3×3-BN."""

    def __init__(self, inputs: int, outputs: int, strides: int = 1):
        super().__init__()
        self.conv_0 = _conv(inputs, outputs, 3, strides)
        self.norm_0 = nn.BatchNorm2d(outputs)
        self.conv_1 = _conv(outputs, outputs, 3)
        self.norm_1 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return T(x)."""
        x = functional.relu(self.norm_0(self.conv_0(x)), inplace=True)
        return self.norm_1(self.conv_1(x))


class Projection(nn.Module):
    """S = 1×1 convolution and BN."""

    def __init__(self, inputs: int, outputs: int, strides: int):
        super().__init__()
        self.conv = _conv(inputs, outputs, 1, strides)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return S(x)."""
        return self.norm(self.conv(x))


class Pad(nn.Module):
    """S of He's option A: a strided slice with zero channels appended."""

    def __init__(self, inputs: int, outputs: int, strides: int):
        super().__init__()
        self.missing, self.strides = outputs - inputs, strides

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return S(x)."""
        x = x[:, :, :: self.strides, :: self.strides]
        return functional.pad(x, (0, 0, 0, 0, 0, self.missing))


class Transition(nn.Module):
    """x ↦ (T(x), S(x))."""

    def __init__(self, unit: nn.Module, shortcut: nn.Module):
        super().__init__()
        self.unit, self.shortcut = unit, shortcut

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return T(x) and S(x)."""
        return self.unit(x), self.shortcut(x)


class Stem(nn.Module):
    """Mixin: the first layers, as parameters ``stem_conv`` and ``stem_norm``."""

    def make_stem(self, stem: str, features: int, norm: bool) -> None:
        """Make a 3×3 convolution ("cifar") or a 7×7/2 one with a pool ("imagenet")."""
        self.imagenet = stem == "imagenet"
        self.stem_conv = _conv(3, features, *((7, 2) if self.imagenet else (3, 1)))
        self.stem_norm = nn.BatchNorm2d(features) if norm else None

    def run_stem(self, x: torch.Tensor) -> torch.Tensor:
        """Return x_0 of the first stage."""
        x = self.stem_conv(x)
        if self.stem_norm is not None:
            x = functional.relu(self.stem_norm(x), inplace=True)
        return functional.max_pool2d(x, 3, 2, 1) if self.imagenet else x


class HeavyBallNet(Stem):
    """ResNet (β2 = 0, ReLU after the sum) and HB-Net (β2 = -1, none): (16)."""

    def __init__(self, network: Any):
        """Take the fields of a ResNet or HB-Net of :mod:`optnet_jax.networks`."""
        super().__init__()
        widths, self.sizes = network.widths, network.stage_sizes
        self.beta2 = float(network.recurrence.beta2)
        self.post_activation = network.recurrence.post_activation is not None
        self.make_stem(network.stem, widths[0], norm=True)
        inputs = widths[0]
        shortcut = {"pad": Pad, "projection": Projection}[network.shortcut]
        for i, (size, width) in enumerate(zip(self.sizes, widths, strict=True)):
            stage: Any = nn.Module()
            changes = i > 0 or inputs != width
            if changes:
                strides = 2 if i else 1
                stage.transition = Transition(
                    Unit(inputs, width, strides), shortcut(inputs, width, strides)
                )
            for k in range(size - changes):
                stage.add_module(f"layer_{k}", Unit(width, width))
            self.add_module(f"stage_{i}", stage)
            inputs = width
        self.head = nn.Linear(inputs, network.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of images [B, C, H, W]."""
        x = self.run_stem(x)
        for i in range(len(self.sizes)):
            x = self._stage(getattr(self, f"stage_{i}"), x)
        return self.head(functional.relu(x).mean((2, 3)))

    def _stage(self, stage: Any, x: torch.Tensor) -> torch.Tensor:
        previous = x
        for name, layer in stage.named_children():
            if name == "transition":
                transformed, previous = layer(x)
                x = transformed + previous
            else:
                new = layer(x) + x
                if self.beta2:
                    new = new + self.beta2 * previous
                x, previous = new, x
            if self.post_activation:
                x = functional.relu(x, inplace=True)
        return x


class DenseLayer(nn.Module):
    """BN-ReLU-conv of the concatenated sources, α_j on the slices of the kernel."""

    def __init__(self, inputs: int, growth: int, bottleneck: bool):
        super().__init__()
        self.bottleneck = bottleneck
        if bottleneck:
            self.norm1, self.conv1 = (
                nn.BatchNorm2d(inputs),
                _conv(inputs, 4 * growth, 1),
            )
            self.norm2 = nn.BatchNorm2d(4 * growth)
            self.conv2 = _conv(4 * growth, growth, 3)
        else:
            self.norm, self.conv = nn.BatchNorm2d(inputs), _conv(inputs, growth, 3)

    def forward(self, sources: list, alpha: torch.Tensor | None) -> torch.Tensor:
        """Return Σ_j α_j T_j(z_j)."""
        x = torch.cat(sources, 1)
        if not self.bottleneck:
            return self._combine(self.norm, self.conv, x, sources, alpha)
        x = self._combine(self.norm1, self.conv1, x, sources, alpha)
        return self.conv2(functional.relu(self.norm2(x), inplace=True))

    @staticmethod
    def _combine(norm: Any, conv: Any, x: Any, sources: list, alpha: Any) -> Any:
        weight = conv.weight
        if alpha is not None:
            channels = torch.tensor([z.shape[1] for z in sources])
            scale = torch.repeat_interleave(alpha, channels.to(alpha.device))
            weight = weight * scale[:, None, None]
        x = functional.relu(norm(x), inplace=True)
        return functional.conv2d(x, weight, padding=conv.padding)


class DenseStage(nn.Module):
    """The sum over all preceding iterates (21)."""

    def __init__(self, network: Any, i: int, inputs: int):
        super().__init__()
        depth = network.stage_sizes[i]
        self.beta = network.stage_recurrence(i).beta
        self.betas = np.asarray(momentum(depth + 1)).tolist()
        self.alpha = None
        if "alpha" in network.learned:
            self.alpha = nn.Parameter(torch.ones(depth * (depth + 1) // 2))
        growth, bottleneck = network.widths[i], network.block == "dense_bottleneck"
        for k in range(depth):
            layer = DenseLayer(inputs + k * growth, growth, bottleneck)
            self.add_module(f"layer_{k}", layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return z_0..z_K, concatenated."""
        sources, d = [x], None
        for k, layer in enumerate(self.children()):
            alpha = None
            if self.alpha is not None:
                start = k * (k + 1) // 2
                alpha = self.alpha[start : start + k + 1]
            z = layer(sources, alpha)
            if self.beta and k > 0:
                newest = sources[-1]
                d = self.betas[k + 1] * (newest if d is None else newest + d)
                z = z - self.beta * d
            sources.append(z)
        return torch.cat(sources, 1)


class DenseTransition(nn.Module):
    """BN-ReLU-1×1 and 2×2 average pooling."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inputs), _conv(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return half the height and width."""
        x = self.conv(functional.relu(self.norm(x), inplace=True))
        return functional.avg_pool2d(x, 2)


class DenseNet(Stem):
    """DenseNet (α ≡ 1, β = 0) and AGD-Net."""

    def __init__(self, network: Any):
        """Take the fields of a DenseNet or AGD-Net of :mod:`optnet_jax.networks`."""
        super().__init__()
        channels, self.sizes = network.stem_features, network.stage_sizes
        self.make_stem(network.stem, channels, norm=network.stem == "imagenet")
        for i, size in enumerate(self.sizes):
            self.add_module(f"stage_{i}", DenseStage(network, i, channels))
            channels += size * network.widths[i]
            if i + 1 < len(self.sizes):
                outputs = int(channels * network.compression)
                self.add_module(f"transition_{i}", DenseTransition(channels, outputs))
                channels = outputs
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, network.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of images [B, C, H, W]."""
        x = self.run_stem(x)
        for i in range(len(self.sizes)):
            x = getattr(self, f"stage_{i}")(x)
            if i + 1 < len(self.sizes):
                x = getattr(self, f"transition_{i}")(x)
        return self.head(functional.relu(self.norm(x), inplace=True).mean((2, 3)))


def torch_network(network: Any) -> nn.Module:
    """Return the PyTorch module of one of our networks.

    Args:
      network: of the ResNet and HB-Net or the DenseNet and AGD-Net family, unrolled.
    """
    return DenseNet(network) if network.dense else HeavyBallNet(network)
