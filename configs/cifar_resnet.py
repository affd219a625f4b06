"""ResNet, HB-Net with β2 = 0, on CIFAR (Table 4).

    python -m optnet_jax.main --config=configs/cifar_resnet.py:augment=True

Arguments: dataset=cifar10|cifar100, augment=False|True, depth=20|56|110, seed=0.
Top-1 error (%) in the paper (+: augment=True); not run here:

    depth    C10    C100     C10+     C100+
    56     10.05   39.65     5.32     26.03
    110     9.17   38.13     5.06     24.71
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes

DEPTHS = {20: "resnet20", 56: "resnet56", 110: "resnet110"}


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, given = recipes.cifar("cifar_resnet", args, depth=56)
    config.model = {
        "name": recipes.choose("depth", given["depth"], DEPTHS),
    }
    return config
