"""How many layers each method needs to reach the minimiser of F, against κ (§5.1).

    python -m optnet_jax.main --config=configs/convergence.py

About a minute on two cores. Arguments: seed=0.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    given = recipes.parse(args, recipes.COMMON)
    return ConfigDict(
        {
            "name": recipes.describe("convergence", given, recipes.COMMON),
            "experiment": "convergence",
            "seed": given["seed"],  # of W and the start
            "parallel_cells": 1,
            "convergence": {
                # Rows of Table 1.
                "activations": ("sigmoid", "tanh", "softplus", "relu"),
                # κ = L/μ of the Hessian at the minimiser.
                "conditions": (10.0, 100.0, 1000.0),
                "dimension": 20,  # n
                # Layers at most.
                "depth": 20000,
                # What counts as reached, relative to the start, from loose to tight: a
                # network's outputs need few digits, a minimiser many. The layers are
                # printed for the last one, the power of κ for each.
                "tolerances": (1e-1, 1e-2, 1e-3, 1e-6),
                # ‖z_0 - z*‖: small, so that the rates are those near the minimiser.
                "radius": 0.01,
            },
        }
    )
