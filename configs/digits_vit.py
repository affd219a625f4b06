"""A small vision transformer on scikit-learn's digits, by AdamW with a cosine.

    python -m optnet_jax.main --config=configs/digits_vit.py:method=yurii
    python -m optnet_jax.main --config=configs/tables.py:digits_vit

Arguments: as of configs/fashion_vit.py, but for width=28: patches of 2×2, 4 layers,
40,078 parameters; 32 channels have 51,946.

Rate and augmentation were chosen for method=transformer, by its error on 287 of the
training images, which it was not trained on then: rates 0.003, 0.006 and 0.012, with
and without crops, a class token or the mean, batches of 32 and 64, one seed each.
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
    # A crop by one pixel moves half a patch: the error is twice as large with it.
    config.data.augment = False
    config.optimizer.learning_rate = 0.012
    return config
