"""DenseNet, the sum over the past (21) with α ≡ 1, β = 0, on Fashion-MNIST.

    python -m optnet_jax.main --config=configs/fashion_densenet.py

Arguments: seed=0. 268,186 parameters, 30.8 million multiply-adds an image.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, _ = recipes.fashion("fashion_densenet", args)
    # Parameters and multiply-adds of ResNet-20: most layers where images are small.
    config.model = {
        "name": "densenet",
        "stage_sizes": (3, 4, 11),
        "stem_features": 24,
    }
    return config
