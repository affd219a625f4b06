"""Does a faster method need fewer layers in sparse coding (§1.2)? ISTA, LISTA, others.

    python -m optnet_jax.main --config=configs/sparse_coding.py
    python -m optnet_jax.main --config=configs/sparse_coding.py:quick

``docs/results/sparse_coding.md`` has what came out.

Arguments: none; or ``quick``: a small A, two methods, a few steps.
"""

from ml_collections import ConfigDict
from optnet_jax.configs import recipes


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    config = recipes.study("sparse_coding", args)
    config.sparse_coding = {
        # b = A x + noise: A of rows × columns, Gaussian, its columns of length 1; each
        # entry of x is Gaussian with probability support, else 0.
        "rows": 20 if args else 250,
        "columns": 40 if args else 500,
        "support": 0.1,
        # Mean of ‖A x‖² over that of the noise.
        "snr_db": 40.0,
        # λ, with which the methods are run and the networks begin.
        "penalty": 0.1,
        # Keys of optnet_jax.recurrences.methods, gd (ISTA) among them.
        "methods": ("gd", "agd") if args else ("gd", "hb", "agd", "admm"),
        # Steps of the methods, and layers of the networks.
        "iterations": 64 if args else 200,
        "depth": 4 if args else 16,
        # Errors (dB) that are to be reached.
        "levels_db": (-3.0, -6.0) if args else (-5.0, -10.0, -15.0),
        # LISTA's two matrices a layer, or V = I - W A and one.
        "coupled": True,
        # Adam, cosine decay to 0, signals drawn afresh for each step.
        "steps": 8 if args else 400,
        "batch_size": 16,
        "learning_rate": 0.003,
        # Signals that the error is taken over.
        "test_signals": 64 if args else 100,
        # Of A, all signals and the noise. With fewer than seven no p-value is below
        # 5 % after the correction.
        "seeds": tuple(range(2 if args else 8)),
    }
    config.parallel_cells = 1
    return config
