"""ResNet, HB-Net with β2 = 0, on scikit-learn's digits.

    python -m optnet_jax.main --config=configs/digits_resnet.py

Arguments: relu=True, whether a ReLU follows each sum (HB-Net has none), seed=0.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, given = recipes.digits("digits_resnet", args, {"relu": True})
    # At 42,000 parameters, as the other three families.
    model = {"name": "resnet", "stage_sizes": (4, 4), "widths": (11, 22)}
    config.model = model if given["relu"] else model | {"post_activation": False}
    return config
