"""DenseNet (19), AGD-Net with α ≡ 1, β = 0, on scikit-learn's digits.

    python -m optnet_jax.main --config=configs/digits_densenet.py

Arguments: seed=0.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, _ = recipes.digits("digits_densenet", args)
    # At 42,000 parameters, as the other three families.
    config.model = {"name": "densenet", "stage_sizes": (4, 4), "growth_rate": 10}
    return config
