"""HB-Net-20 (16), the heavy ball with β = 1, on Fashion-MNIST.

    python -m optnet_jax.main --config=configs/fashion_hb.py

Arguments: seed=0. 269,434 parameters, 30.8 million multiply-adds an image.
"""

from optnet_jax.configs import recipes

from optnet_jax.configuration import Config


def get_config(args: str = "") -> Config:
    """The config; see above for ``args``."""
    config, _ = recipes.fashion("fashion_hb", args)
    config.model = {"name": "hb_net20"}
    return config
