"""Logits against torchvision's own networks, where it is installed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.networks import create
from optnet_jax.weights import torchvision

torch: Any = pytest.importorskip("torch")
models: Any = pytest.importorskip("torchvision.models")


def _randomise(module):
    torch.manual_seed(0)
    for name, value in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if value.ndim == 4:
            torch.nn.init.kaiming_normal_(value, mode="fan_out")
        else:
            value.uniform_(0.5, 1.0)


def _relative_difference(reference, network, size):
    """Largest difference of the logits, both ways, by the largest logit."""
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
    fields = {"stem": "imagenet", "num_classes": 5}
    dense = {"growth_rate": 4, "bottleneck": True, "compression": 0.5}
    dense |= {"stage_sizes": (2, 3), "stem_features": 8}
    reference = models.DenseNet(4, (2, 3), num_init_features=8, num_classes=5)
    _randomise(reference)
    network = create("densenet", **dense, **fields)
    assert _relative_difference(reference, network, 40) < 1e-5
    res = {"stage_sizes": (1, 2, 1, 1), "widths": (64, 128, 256, 512)}
    block = models.resnet.BasicBlock
    reference = models.ResNet(block, (1, 2, 1, 1), num_classes=5)
    _randomise(reference)
    network = create("resnet", **res, **fields, shortcut="projection")
    assert _relative_difference(reference, network, 40) < 1e-5


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("resnet34", "resnet34"),
        ("densenet121", "densenet121"),
        ("vit_b_16", "vit_base16"),
    ],
)
def test_whole_networks(name, ours):
    reference = models.get_model(name, weights=None)
    if name == "vit_b_16":
        # The classifier's weights are 0 at the start.
        torch.nn.init.normal_(reference.heads.head.weight, std=0.02)
    else:
        _randomise(reference)
    assert _relative_difference(reference, create(ours), 224) < 1e-4
