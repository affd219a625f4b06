"""Five structures at three depths and one parameter count, on scikit-learn's digits.

    python -m optnet_jax.main --config=configs/tables.py:digits_depth

One run of it: --config=configs/digits_depth.py:structure=hb,depth=26

Arguments: structure=plain (7), resnet or hb (16), nesterov (17), agd (18), dmr (20);
depth=6, 14, 26 (weight layers, counted as for a ResNet); seed=0. Every network has
42,000 parameters within 1.5 %: what a deeper one gains in layers it loses in width.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes

DEPTHS = {6: 1, 14: 3, 26: 6}  # weight layers -> units a stage
NETWORKS = {
    "plain": "plain",
    "resnet": "resnet",
    "hb": "hb_net",
    "nesterov": "nesterov_net",
    "agd": "agd_net",
    "dmr": "dmr_net",
}
ONE_PATH = {6: (25, 46), 14: (12, 26), 26: (10, 17)}
TWO_PATHS = {6: (17, 33), 14: (9, 18), 26: (7, 12)}
# Growth rate and stem; a unit of the others is two dense layers.
DENSE = {6: (18, 28), 14: (6, 22), 26: (3, 19)}


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config, given = recipes.digits(
        "digits_depth", args, {"structure": "plain", "depth": 14}
    )
    structure, depth = given["structure"], given["depth"]
    units = recipes.choose("depth", depth, DEPTHS)
    name = recipes.choose("structure", structure, NETWORKS)
    # A third of configs/digits_*.py, as the table has 180 runs.
    config.schedule.epochs = 10.0
    if structure == "agd":
        growth_rate, stem_features = DENSE[depth]
        config.model = {
            "name": name,
            "stage_sizes": (2 * units, 2 * units),
            "growth_rate": growth_rate,
            "stem_features": stem_features,
        }
    else:
        widths = TWO_PATHS if structure == "dmr" else ONE_PATH
        config.model = {
            "name": name,
            "stage_sizes": (units, units),
            "widths": widths[depth],
        }
    return config
