"""Logits against torch modules that are spelled as torchvision's are."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.networks import create
from optnet_jax.networks.zoo import densenet, resnet
from optnet_jax.weights import torchvision

torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn


def _conv(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = _conv(inputs, outputs, 3, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv(outputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                _conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + identity)


class TorchResNet(nn.Module):
    def __init__(self, sizes, widths, classes):
        super().__init__()
        self.conv1 = _conv(3, widths[0], 7, 2)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        for i, (size, width) in enumerate(zip(sizes, widths, strict=True)):
            blocks = []
            for j in range(size):
                blocks.append(BasicBlock(inputs, width, 2 if i and not j else 1))
                inputs = width
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.stages = len(sizes)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


class DenseLayer(nn.Module):
    def __init__(self, inputs, growth):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv(inputs, 4 * growth, 1)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = _conv(4 * growth, growth, 3)

    def forward(self, x):
        y = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(y)))], 1)


class TorchDenseNet(nn.Module):
    def __init__(self, sizes, growth, stem, classes):
        super().__init__()
        modules: Any = {
            "conv0": _conv(3, stem, 7, 2),
            "norm0": nn.BatchNorm2d(stem),
            "relu0": nn.ReLU(),
            "pool0": nn.MaxPool2d(3, 2, 1),
        }
        channels = stem
        for b, size in enumerate(sizes):
            block: Any = nn.Sequential()
            for k in range(size):
                block.add_module(f"denselayer{k + 1}", DenseLayer(channels, growth))
                channels += growth
            modules[f"denseblock{b + 1}"] = block
            if b < len(sizes) - 1:
                transition: Any = nn.Sequential()
                transition.add_module("norm", nn.BatchNorm2d(channels))
                transition.add_module("relu", nn.ReLU())
                transition.add_module("conv", _conv(channels, channels // 2, 1))
                transition.add_module("pool", nn.AvgPool2d(2))
                modules[f"transition{b + 1}"] = transition
                channels //= 2
        modules["norm5"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential()
        for name, module in modules.items():
            self.features.add_module(name, module)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        return self.classifier(torch.relu(self.features(x)).mean((2, 3)))


def _randomise(module):
    torch.manual_seed(0)
    for name, value in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if value.ndim == 4:
            nn.init.kaiming_normal_(value, mode="fan_out")
        else:
            value.uniform_(0.5, 1.0)


def _relative_difference(reference, network, size):
    """Largest difference of the logits, both ways, by the largest logit."""
    _randomise(reference)
    reference.eval()
    state = {key: value.numpy() for key, value in reference.state_dict().items()}
    images = np.random.default_rng(0).standard_normal((2, size, size, 3), np.float32)
    variables = torchvision.import_state_dict(network, state)
    logits = jax.jit(network.apply)(variables, jnp.asarray(images))
    exported = torchvision.export_state_dict(network, variables)
    restored = {key: torch.from_numpy(value.copy()) for key, value in exported.items()}
    reference.load_state_dict(restored, strict=True)
    with torch.no_grad():
        expected = reference(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    assert np.ptp(expected) > 1e-2
    return np.abs(logits - expected).max() / np.abs(expected).max()


def test_small_networks():
    dense = densenet(
        stage_sizes=(2, 3),
        growth_rate=4,
        stem="imagenet",
        stem_features=8,
        bottleneck=True,
        compression=0.5,
        num_classes=5,
    )
    assert _relative_difference(TorchDenseNet((2, 3), 4, 8, 5), dense, 40) < 1e-5
    res = resnet(
        stage_sizes=(2, 2),
        widths=(4, 6),
        stem="imagenet",
        shortcut="projection",
        num_classes=5,
    )
    assert _relative_difference(TorchResNet((2, 2), (4, 6), 5), res, 40) < 1e-5


@pytest.mark.long
def test_resnet34_and_densenet121(record_property):
    differences = {
        "resnet34": _relative_difference(
            TorchResNet((3, 4, 6, 3), (64, 128, 256, 512), 1000),
            create("resnet34"),
            224,
        ),
        "densenet121": _relative_difference(
            TorchDenseNet((6, 12, 24, 16), 32, 64, 1000), create("densenet121"), 224
        ),
    }
    record_property("relative_difference", differences)
    print(differences)
    assert max(differences.values()) < 1e-4
