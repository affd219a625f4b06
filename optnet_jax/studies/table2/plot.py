"""The picture of Table 2: against depth beside the paper's, and against time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from optnet_jax.runs import picture
from optnet_jax.studies.table2.contenders import PAPER, contender
from optnet_jax.studies.table2.tables import Report, find

matplotlib.use("Agg", force=False)

from matplotlib import pyplot as plt  # noqa: E402 (after the choice of the backend)

COLORS = {
    "ADMM": "tab:red",
    "GD": "tab:gray",
    "HB": "tab:orange",
    "AGD": "tab:blue",
    "AGD2": "tab:green",
}
"""A column of the paper → its colour; its second reading is dashed."""


def draw(report: Report, file: Path) -> Path:
    """Draw the excess over M against depth, and the distance to the floor against time.

    Args:
      report: of :func:`~optnet_jax.studies.table2.report.collect`.
      file: the PNG; its folder is made.

    Returns:
      ``file``.
    """
    figure, axes = plt.subplots(1, 2, figsize=(12, 6), layout="constrained")
    _draw_depth(axes[0], report)
    _draw_time(axes[1], report)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    plt.close(figure)
    return picture.save(figure, file, 130)


def _styles(report: Report) -> dict[str, dict[str, Any]]:
    seen: set[str] = set()
    styles = {}
    for structure in report["config"]["structures"]:
        column = contender(structure).column or structure
        styles[structure] = {
            "color": COLORS.get(column, "black"),
            "linestyle": "--" if column in seen else "-",
        }
        seen.add(column)
    return styles


def _draw_depth(axis: Any, report: Report) -> None:
    depths = report["config"]["depths"]
    for structure, style in _styles(report).items():
        final = [find(report, structure, k)["final"]["excess"] for k in depths]
        axis.errorbar(
            depths,
            [f["mean"] for f in final],
            yerr=[f["sd"] or 0.0 for f in final],
            marker="o",
            markersize=4,
            capsize=3,
            label=contender(structure).label,
            **style,
        )
    columns = {contender(s).column for s in report["config"]["structures"]}
    for column in [c for c in PAPER if c in columns]:
        # The paper's M is not printed; its expectation is 1.
        axis.plot(
            list(PAPER[column]),
            [mse - 1 for mse in PAPER[column].values()],
            linestyle="none",
            marker="x",
            markersize=9,
            markeredgewidth=2,
            color=COLORS[column],
            label=f"paper, {column}: MSE - 1",
        )
    axis.set_yscale("symlog", linthresh=1e-3)
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_xticks(depths)
    axis.set_ylim(bottom=-1e-3)
    axis.set(xlabel="layers", ylabel="MSE - M (linear within ±0.001)")
    axis.set_title(f"after {report['config']['steps']:,} steps")


def _draw_time(axis: Any, report: Report) -> None:
    config = report["config"]
    depth, rate = config["timing"]["depth"], config["optimizer"]["learning_rate"]
    for structure, style in _styles(report).items():
        cell = find(report, structure, depth)
        floor = np.array(cell["constant_mse"])[:, None]
        distance = (np.array(cell["mse"]) - floor).mean(0)
        time = rate * np.array(cell["checkpoints"])
        # Below this float32 means of numbers near 1 say nothing.
        axis.plot(time, np.maximum(distance, 1e-7), marker="o", markersize=4, **style)
    axis.axvline(rate * config["steps"], color="black", linewidth=0.6, linestyle=":")
    axis.set(xscale="log", yscale="log")
    axis.set_xlabel("learning rate x steps (dotted: where Table 2 stops)")
    axis.set_ylabel("MSE - MSE of the best constant output")
    axis.set_title(f"{depth} layers, against the training time")
