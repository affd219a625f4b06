"""A report over cells whose numbers are known."""

import pytest
from optnet_jax.configs import table2 as config_file

from optnet_jax.studies.table2 import report as reports
from optnet_jax.studies.table2.contenders import contender

M = (1.001, 0.999)
CHECKPOINTS = (100, 1000, 2000)
# Excess over M of each structure at the checkpoints.
EXCESS = {
    "gd": (0.05, 0.00644, 0.003),
    "hb": (0.06, 0.00500, 0.002),
    "agd": (0.04, 0.00270, 0.0025),
    "agd2": (0.01, -0.0001, -0.0001),
    "agd_readout": (0.01, -0.00005, -0.0001),
}


def make_cell(structure, depth, excess):
    return {
        "structure": structure,
        "label": contender(structure).label,
        "depth": depth,
        "seeds": [0, 1],
        "checkpoints": list(CHECKPOINTS),
        "mse": [[m + e for e in excess] for m in M],
        "output_power": [[e + 0.0001 for e in excess] for _ in M],
        "output_spread": [[1e-6 for _ in excess] for _ in M],
        "target_power": list(M),
        "constant_mse": [m - 0.0001 for m in M],
        "compile_seconds": 0.5,
        "wall_seconds": 1.5,
    }


@pytest.fixture
def report():
    config = config_file.get_config()
    config.seeds, config.depths = (0, 1), (10,)
    config.structures = ("gd", "hb", "agd", "agd2")
    config.readout = {"structures": ("agd_readout",), "depths": (10,)}
    config.timing.checkpoints = CHECKPOINTS
    cells = [make_cell(name, 10, excess) for name, excess in EXCESS.items()]
    return reports.collect(config, cells)
