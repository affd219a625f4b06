"""HB-Net-20 (16), the heavy ball with β = 1, on a folder of pictures of your own.

    python -m optnet_jax.main --config=configs/folder_hb.py:path=DIR,size=64

Arguments: path=, the folder (DIR/train/CLASS/*.png, DIR/test/CLASS/*.png), size=64, the
side of the network's input, seed=0. 269,722 parameters for 10 classes, 162 million
multiply-adds an image of 64x64.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, _ = recipes.folder("folder_hb", args)
    config.model = {"name": "hb_net20"}
    return config
