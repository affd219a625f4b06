"""HB-Net (16), the heavy ball with β = 1, on ImageNet (Table 5).

    python -m optnet_jax.main --config=configs/imagenet_hb.py

Arguments: augment=True|False, seed=0.
Top-1 / top-5 error (%) in the paper: 26.33 / 8.56; not run here.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, _ = recipes.imagenet("imagenet_hb", args)
    # The paper's batch of 256 lies on 4 GPUs: statistics of 64 images each.
    config.model = {"name": "hb_net34", "batch_norm_group": 64}
    return config
