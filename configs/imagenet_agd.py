"""AGD-Net (21), on ImageNet (Table 5).

    python -m optnet_jax.main --config=configs/imagenet_agd.py

Arguments: augment=True|False, seed=0.
Top-1 / top-5 error (%) in the paper: 24.62 / 7.39; not run here.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, _ = recipes.imagenet("imagenet_agd", args)
    # The paper's batch of 256 lies on 4 GPUs: statistics of 64 images each.
    config.model = {"name": "agd_net121", "batch_norm_group": 64}
    return config
