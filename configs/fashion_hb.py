"""HB-Net-20 (16), the heavy ball with β = 1, on Fashion-MNIST.

    python -m optnet_jax.main --config=configs/fashion_hb.py

Arguments: seed=0. 269,434 parameters, 30.8 million multiply-adds an image.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, _ = recipes.fashion("fashion_hb", args)
    config.model = {"name": "hb_net20"}
    return config
