"""What structures do to signals and gradients, and HB-Net against ResNet at depth.

    python -m optnet_jax.main --config=configs/stability.py
    python -m optnet_jax.main --config=configs/stability.py:quick

``docs/results/stability.md`` has what came out.

Arguments: none; or ``quick``: 20 layers, a few steps of training.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config = recipes.study_of_images("stability", args, batch_size=64)
    config.stability = {
        # Norms in structures of fully connected ReLU layers, He normal.
        "norms": {"depth": 40, "width": 64, "batch": 64, "activation": "relu"},
        # A layer may amplify by 1 + tolerance before it is warned of.
        "tolerance": 0.05,
    }
    # The trial: optnet_jax.studies.trial.
    config.trial = {
        # Weight layers, two a unit and two around them.
        "depths": (20,) if args else (20, 56, 110),
        "width": 16,
        # With and without batch normalisation.
        "normalize": (True, False),
        # Quarters of a decade: one rate more that trains is a factor of 1.8.
        "learning_rates": (0.1, 1.0)
        if args
        else tuple(float(f"{10 ** (k / 4):.2g}") for k in range(-10, 3)),
        # Ten: the least p-value passes the correction for all comparisons.
        "seeds": tuple(range(10)),
        "steps": 20 if args else 150,
        # Mean loss of the last tenth of the steps above which a run has failed:
        # a guess has log 10 = 2.30 where there are ten classes.
        "failed_above": 2.0,
    }
    return config
