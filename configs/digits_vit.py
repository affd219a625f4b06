"""A small vision transformer on scikit-learn's digits, by AdamW with a cosine.

    python -m optnet_jax.main --config=configs/digits_vit.py:method=yurii
    python -m optnet_jax.studies.sweep digits_vit

Arguments: as of configs/fashion_vit.py, but for width=28: patches of 2×2, 4 layers,
40,078 parameters; 32 channels have 51,946.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    own = {"method": "transformer", "width": 28}
    config, given = recipes.digits("digits_vit", args, own)
    recipes.vision(
        config, given["method"], depth=4, width=given["width"], heads=4, patch_size=2
    )
    return config
