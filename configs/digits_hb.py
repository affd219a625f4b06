"""HB-Net (16), the heavy ball with β = 1, on scikit-learn's digits.

    python -m optnet_jax.main --config=configs/digits_hb.py

Arguments: seed=0.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, _ = recipes.digits("digits_hb", args)
    # At 42,000 parameters, as the other three families.
    config.model = {"name": "hb_net", "stage_sizes": (4, 4), "widths": (11, 22)}
    return config
