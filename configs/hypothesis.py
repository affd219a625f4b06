"""Do networks of faster methods need fewer layers (§5)? Trained on argmin F.

    python -m optnet_jax.main --config=configs/hypothesis.py
    python -m optnet_jax.main --config=configs/hypothesis.py:quick

Five structures, 4 to 16 layers, one W a layer (15) or one for all (§5.1), twelve seeds,
the learning rate and the scale of the initial weights tuned for each.
``docs/results/hypothesis.md`` has what came out.

Arguments: none; or ``quick``: four seeds, up to 8 layers, a quarter of the steps.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config = recipes.study("hypothesis", args)
    config.hypothesis = {
        # The networks: labels of optnet_jax.recurrences.methods, which also has HB and
        # AGD with the coefficients that are best for κ.
        "methods": (
            "GD (7)",
            "HB (11), β = 0.3",
            "AGD (12), θ_k",
            "AGD2 (13), θ_k",
            "ADMM (14)",
        ),
        # Up to two layers (12) is (7).
        "depths": (4, 8) if args else (4, 8, 16),
        "tyings": ("untied", "tied"),
        # The task: Φ, κ and n of optnet_jax.studies.learnable.
        "activation": "relu",
        "condition": 100.0,
        "dimension": 16,
        "samples": {"train": 8192, "validation": 2048, "test": 2048},
        # The budget of every network.
        "steps": 250 if args else 1000,
        "batch_size": 128,
        "learning_rates": (0.003, 0.01, 0.03, 0.1),
        # Of the initial weights, relative to Xavier's.
        "weight_scales": (0.125, 0.25, 0.5, 1.0),
        "tuning_seeds": (100,) if args else (100, 101, 102),
        # Twelve: the least p-value passes the correction for all tests of the page.
        "seeds": tuple(range(4 if args else 12)),
        # Relative test errors for which layers are counted.
        "tolerances": (0.01, 0.003, 0.001),
        # Iterations of the methods themselves, with the true W.
        "untrained_depth": 64,
    }
    # Cells that are trained at once on a CPU.
    config.parallel_cells = 2
    return config
