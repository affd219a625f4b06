"""ResNet-20, the heavy ball (16) with β₂ = 0, on a folder of pictures of your own.

    python -m optnet_jax.main --config=configs/folder_resnet.py:path=DIR,size=64

Arguments: path=, the folder (DIR/train/CLASS/*.png, DIR/test/CLASS/*.png), size=64, the
side of the network's input, seed=0. 269,722 parameters for 10 classes, 162 million
multiply-adds an image of 64x64.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, _ = recipes.folder("folder_resnet", args)
    config.model = {"name": "resnet20"}
    return config
