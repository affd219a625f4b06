"""AGD-Net (21), on CIFAR (Table 4).

    python -m optnet_jax.main --config=configs/cifar_agd.py:augment=True

Arguments: dataset=cifar10|cifar100, augment=False|True, depth=40|52, seed=0.
Top-1 error (%) in the paper (+: augment=True); not run here:

    depth    C10    C100     C10+     C100+
    40      6.44   26.33     5.20     24.87
    52      5.75   24.92     4.94     23.84
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes

DEPTHS = {40: "agd_net40", 52: "agd_net52"}


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, given = recipes.cifar("cifar_agd", args, depth=40)
    config.model = {
        "name": recipes.choose("depth", given["depth"], DEPTHS),
        "dropout_rate": recipes.dense_dropout(given),
    }
    return config
