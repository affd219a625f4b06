"""DenseNet (19), AGD-Net with α ≡ 1, β = 0, on CIFAR (Table 4).

    python -m optnet_jax.main --config=configs/cifar_densenet.py:augment=True

Arguments: dataset=cifar10|cifar100, augment=False|True, depth=40|52, seed=0.
Top-1 error (%) in the paper (+: augment=True); not run here:

    depth    C10    C100     C10+     C100+
    40      7.00   27.55     5.24     24.42
    52      6.05   26.30     5.09     24.33
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes

DEPTHS = {40: "densenet40", 52: "densenet52"}


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, given = recipes.cifar("cifar_densenet", args, depth=40)
    config.model = {
        "name": recipes.choose("depth", given["depth"], DEPTHS),
        "dropout_rate": recipes.dense_dropout(given),
    }
    return config
