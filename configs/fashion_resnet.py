"""ResNet-20, the heavy ball (16) with β₂ = 0, on Fashion-MNIST.

    python -m optnet_jax.main --config=configs/fashion_resnet.py

Arguments: relu=True, whether a ReLU follows each sum (HB-Net has none), seed=0. 269,434
parameters, 30.8 million multiply-adds an image.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, given = recipes.fashion("fashion_resnet", args, {"relu": True})
    config.model = {"name": "resnet20", "post_activation": given["relu"]}
    return config
