"""The tables of Table 2's report, and the look-ups that they share."""

from __future__ import annotations

from typing import Any

import numpy as np

from optnet_jax.studies.table2.contenders import PAPER, contender
from optnet_jax.studies.tables import markdown_table, with_sd

NOTHING = "-"

Report = dict[str, Any]
"""What ``table2.json`` holds, see :func:`~optnet_jax.studies.table2.report.collect`."""


def comparison_table(report: Report) -> str:
    """Lay out ours beside the paper's: a block of rows for each structure.

    Args:
      report: of ``collect``.
    """
    depths = report["config"]["depths"]
    rows = []
    for structure in report["config"]["structures"]:
        found = {k: find(report, structure, k)["final"] for k in depths}
        paper = PAPER.get(contender(structure).column or "", {})
        block = {
            "MSE": lambda k, f=found: with_sd(f[k]["mse"]["per_seed"]),
            "excess over M": lambda k, f=found: with_sd(f[k]["excess"]["per_seed"]),
            "paper, MSE": lambda k, p=paper: f"{p[k]:.5f}" if k in p else NOTHING,
            "difference": lambda k, f=found, p=paper: (
                f"{1 + f[k]['excess']['mean'] - p[k]:+.5f}" if k in p else NOTHING
            ),
        }
        label = contender(structure).label
        for i, (name, entry) in enumerate(block.items()):
            rows.append([label if i == 0 else "", name, *map(entry, depths)])
    return markdown_table(["structure", "", *(f"{k} layers" for k in depths)], rows)


def readout_table(report: Report) -> str:
    """Lay out the read-out ablation: the same weights' sequence, read out otherwise.

    Args:
      report: of ``collect``.
    """
    names = ("gd", "gd_readout", "agd", "agd_readout", "agd2")
    rows = []
    for depth in report["config"]["readout"]["depths"]:
        for name in names:
            cell = find(report, name, depth)
            if cell is None:
                continue
            final = cell["final"]
            spread = float(final["output_spread"]["mean"])
            rows.append(
                [
                    contender(name).label,
                    str(depth),
                    with_sd(final["mse"]["per_seed"]),
                    with_sd(final["excess"]["per_seed"]),
                    f"{final['output_power']['mean']:.5f}",
                    f"{spread:.1e}",
                ]
            )
    header = ["structure", "layers", "MSE", "excess over M", "mean out²"]
    return markdown_table([*header, "depends on input"], rows)


def timing_table(report: Report) -> str:
    """Lay out the excess over M, and the order, against the training time.

    Args:
      report: of ``collect``.
    """
    rate = report["config"]["optimizer"]["learning_rate"]
    names = timed(report)
    rows = []
    for step in report["config"]["timing"]["checkpoints"]:
        excess = {name: excess_at(report, name, step) for name in names}
        order = " < ".join(sorted(names, key=excess.__getitem__))
        entries = [f"{excess[name]:+.5f}" for name in names]
        rows.append([f"{rate * step:g}", str(step), *entries, order])
    return markdown_table(["rate x steps", "steps", *names, "order of MSE"], rows)


def cost_table(report: Report) -> str:
    """Lay out the seconds that each structure took at each depth.

    Args:
      report: of ``collect``.
    """
    depths = sorted({cell["depth"] for cell in report["cells"]})
    rows = []
    for structure in dict.fromkeys(cell["structure"] for cell in report["cells"]):
        cells = (find(report, structure, depth) for depth in depths)
        seconds = [f"{cell['wall_seconds']:.1f}" if cell else NOTHING for cell in cells]
        rows.append([contender(structure).label, *seconds])
    return markdown_table(["structure", *(f"{k} layers" for k in depths)], rows)


def find(report: Report, structure: str, depth: int) -> Any:
    """Return a cell of the report, or None.

    Args:
      report: of ``collect``.
      structure: its name in the config.
      depth: its number of layers.
    """
    for cell in report["cells"]:
        if (cell["structure"], cell["depth"]) == (structure, depth):
            return cell
    return None


def timed(report: Report) -> list[str]:
    """Return the structures that were measured at the depth of the timing.

    Args:
      report: of ``collect``.
    """
    depth = report["config"]["timing"]["depth"]
    return [s for s in report["config"]["structures"] if find(report, s, depth)]


def excess_at(report: Report, structure: str, step: int) -> float:
    """Return a structure's mean excess over M at the depth of the timing.

    Args:
      report: of ``collect``.
      structure: its name in the config.
      step: one of the checkpoints.
    """
    cell = find(report, structure, report["config"]["timing"]["depth"])
    at = cell["checkpoints"].index(step)
    mse = [seed[at] for seed in cell["mse"]]
    return float(np.mean(np.subtract(mse, cell["target_power"])))
