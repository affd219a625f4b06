"""AGD-Net (21), on Fashion-MNIST.

    python -m optnet_jax.main --config=configs/fashion_agd.py

Arguments: beta=0.1, learned=True, whether α is trained or 1, seed=0. 268,268
parameters, 30.8 million multiply-adds an image.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    own = {"beta": 0.1, "learned": True}
    config, given = recipes.fashion("fashion_agd", args, own)
    # As fashion_densenet.py, and 82 coefficients.
    config.model = {
        "name": "agd_net",
        "stage_sizes": (3, 4, 11),
        "stem_features": 24,
        "beta": given["beta"],
        "learned": ("alpha",) if given["learned"] else (),
    }
    return config
