"""The line (s, -1) of reversible networks, beside ResNet, at 20 to 110 layers.

    python -m optnet_jax.main --config=configs/line.py
    python -m optnet_jax.main --config=configs/line.py:quick

``docs/results/line.md`` has what came out, on digits; with batch normalisation by
``--config.line.normalize='(True,)'``, another set by
``--config.data.dataset=fashion_mnist``.

Arguments: none; or ``quick``: two s, 8 layers, a few steps.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config = recipes.study_of_images("line", args, batch_size=64)
    config.line = {
        # Periods 4, 6, 8 and ∞ with T = 0.
        "s": (1.0, 2.0) if args else (0.0, 1.0, 2**0.5, 2.0),
        # Weight layers, two a unit and two around them.
        "depths": (8,) if args else (20, 56, 110),
        "width": 4 if args else 16,
        # With or without batch normalisation, by the statistics of the batch.
        "normalize": (False,),
        # Of SGD with momentum 0.9, to choose from: quarters of a decade; below them
        # decades, for s = 2.
        "learning_rates": (0.01,)
        if args
        else (1e-5, 1e-4, *(float(f"{10 ** (k / 4):.2g}") for k in range(-12, -3))),
        # Of the initial T, likewise: leapfrog over a fixed time asks for T of the
        # order of 1/K².
        "scales": (0.1, 1.0) if args else (0.01, 1.0),
        # They choose rate and scale; the others compare.
        "tuning_seeds": tuple(range(100, 101 if args else 106)),
        # With fewer than nine no p-value is below 5 % after the correction.
        "seeds": tuple(range(2 if args else 10)),
        "steps": 4 if args else 150,
    }
    return config
