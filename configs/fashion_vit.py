"""A small vision transformer on Fashion-MNIST, by AdamW with a cosine.

    python -m optnet_jax.main --config=configs/fashion_vit.py:method=yurii
    python -m optnet_jax.main --config=configs/tables.py:fashion_vit

Arguments: method=transformer (16) with (1, 0), hb (11) with β = 0.3, nesterov (12),
yurii, YuriiFormer's update with learned α, β, γ, or triple, with a learned δ as well;
width=60, seed=0. Patches of 4×4, 6 layers, 268,690 parameters, 14.8 million
multiply-adds an image; 68 channels have 343,682 parameters.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    own = {"method": "transformer", "width": 60}
    config, given = recipes.fashion("fashion_vit", args, own)
    config.schedule.warmup_epochs = 1.0
    recipes.vision(
        config, given["method"], depth=6, width=given["width"], heads=4, patch_size=4
    )
    return config
