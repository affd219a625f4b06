"""The named members of the DenseNet and AGD-Net family."""

from __future__ import annotations

import functools
from collections.abc import Callable

from optnet_jax.networks.dense_net import DenseNet

densenet = DenseNet
agd_net = functools.partial(DenseNet, learned=("alpha",), beta=0.1)

_depth_40 = {"stage_sizes": (12, 12, 12)}
_depth_52 = {"stage_sizes": (16, 16, 16)}
_depth_121 = {
    "stage_sizes": (6, 12, 24, 16),
    "growth_rate": 32,
    "stem": "imagenet",
    "stem_features": 64,
    "bottleneck": True,
    "compression": 0.5,
    "num_classes": 1000,
}
_bc100 = {
    "stage_sizes": (16, 16, 16),
    "stem_features": 24,
    "bottleneck": True,
    "compression": 0.5,
}

DENSE_NETWORKS: dict[str, Callable[..., DenseNet]] = {
    "densenet": densenet,
    "densenet40": functools.partial(densenet, **_depth_40),
    "densenet52": functools.partial(densenet, **_depth_52),
    "densenet121": functools.partial(densenet, **_depth_121),
    "densenet_bc100": functools.partial(densenet, **_bc100),
    "agd_net": agd_net,
    "agd_net40": functools.partial(agd_net, **_depth_40),
    "agd_net52": functools.partial(agd_net, **_depth_52),
    "agd_net121": functools.partial(agd_net, **_depth_121),
}
"""Name -> constructor; an AGD-Net is its DenseNet with other coefficients."""
