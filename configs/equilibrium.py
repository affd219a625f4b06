"""When is a faster method a better network? Networks that are a minimiser, x*.

    python -m optnet_jax.main --config=configs/equilibrium.py
    python -m optnet_jax.main --config=configs/equilibrium.py:quick

``docs/results/equilibrium.md`` has what came out, on digits; another set by
``--config.data.dataset=fashion_mnist``.

Arguments: none; or ``quick``: one activation, two μ, a few steps.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config = recipes.study_of_images("equilibrium", args, batch_size=128)
    config.equilibrium = {
        # Proximal maps: names of optnet_jax.studies.equilibrium.PROXIMAL.
        "activations": ("tanh",) if args else ("tanh", "relu", "soft_threshold"),
        # κ = 1/μ at most.
        "mus": (0.1, 0.03) if args else (0.1, 0.03, 0.01, 0.003),
        "width": 8 if args else 32,  # n
        # Adam, cosine decay to 0.
        "steps": 4 if args else 300,
        "learning_rate": 0.003,
        # Of the initial V; that of W is in no network, see SymmetricMap.
        "scale": 1.0,
        # Relative residual up to which x* is found in training.
        "tolerance": 1e-4,
        # The network trained through x*, read out after 0..depth layers.
        "depth": 16 if args else 256,
        # Relative residual that counts as the minimiser reached.
        "residual": 1e-3,
        # Trained with each method cut at K layers, at one μ.
        "cut": {"mu": 0.03 if args else 0.01, "depths": (2,) if args else (2, 8)},
        # Trained through x* with one of these instead, at the same μ.
        "varied": {
            "learning_rate": () if args else (0.001, 0.01),
            "scale": (3.0,) if args else (0.3, 3.0),
            "tolerance": () if args else (0.01,),
        },
        # Twelve: with ten no p-value is below 5 % after the correction.
        "seeds": tuple(range(2 if args else 12)),
    }
    return config
