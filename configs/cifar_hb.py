"""HB-Net (16), the heavy ball with β = 1, on CIFAR (Table 4).

    python -m optnet_jax.main --config=configs/cifar_hb.py:augment=True

Arguments: dataset=cifar10|cifar100, augment=False|True, depth=20|56|110, seed=0.
Top-1 error (%) in the paper (+: augment=True); not run here:

    depth    C10    C100     C10+     C100+
    56     10.17   38.52     5.46     26.00
    110     8.66   36.40     5.04     23.93
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes

DEPTHS = {20: "hb_net20", 56: "hb_net56", 110: "hb_net110"}


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, given = recipes.cifar("cifar_hb", args, depth=56)
    config.model = {
        "name": recipes.choose("depth", given["depth"], DEPTHS),
    }
    return config
