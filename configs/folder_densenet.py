"""DenseNet, the sum (21) with α ≡ 1, β = 0, on a folder of pictures of your own.

    python -m optnet_jax.main --config=configs/folder_densenet.py:path=DIR,size=64

Arguments: path=, the folder (DIR/train/CLASS/*.png, DIR/test/CLASS/*.png), size=64, the
side of the network's input, seed=0. 268,618 parameters for 10 classes, 162 million
multiply-adds an image of 64x64.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, _ = recipes.folder("folder_densenet", args)
    # As fashion_densenet.py: parameters and multiply-adds of ResNet-20.
    config.model = {
        "name": "densenet",
        "stage_sizes": (3, 4, 11),
        "stem_features": 24,
    }
    return config
