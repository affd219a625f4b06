"""The picture: error against depth, trained and with the true W."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from optnet_jax.runs import picture
from optnet_jax.studies.hypothesis.report import (
    Report,
    errors_by_depth,
    mean_and_band,
    untrained_by_depth,
)

matplotlib.use("Agg", force=False)

from matplotlib import pyplot as plt  # noqa: E402 (after the choice of the backend)


def draw(report: Report, file: Path) -> Path:
    """Draw one panel for the methods themselves and one for each tying.

    Lines are geometric means over the seeds, bands their 95 % intervals.

    Args:
      report: of :func:`~optnet_jax.studies.hypothesis.report.collect`.
      file: the PNG; its folder is made.

    Returns:
      ``file``.
    """
    study = report["config"]["hypothesis"]
    panels = ["true W", *study["tyings"]]
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(4.2 * len(panels), 4.4),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    depths = sorted(study["depths"])
    for axis, panel in zip(axes[0], panels, strict=True):
        for index, label in enumerate(study["methods"]):
            errors = (
                untrained_by_depth(report, label)
                if panel == "true W"
                else errors_by_depth(report, label, panel)
            )
            _draw_line(axis, errors, depths, label, f"C{index}")
        axis.set(xscale="log", yscale="log", xlabel="layers")
        axis.set_xticks(depths, [str(depth) for depth in depths])
        axis.minorticks_off()
        trained = "the methods, true W" if panel == "true W" else f"trained, {panel}"
        axis.set_title(trained)
        for tolerance in study["tolerances"]:
            axis.axhline(tolerance, color="gray", linewidth=0.5, linestyle=":")
        axis.axhline(1, color="gray", linewidth=0.8)
    axes[0][0].set_ylabel("test error relative to the best constant's")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    plt.close(figure)
    return picture.save(figure, file, 90)


def _draw_line(
    axis: Any, errors: list[dict[int, float]], depths: list[int], label: str, color: str
) -> None:
    bands = np.array([mean_and_band([e[k] for e in errors]) for k in depths])
    axis.plot(depths, bands[:, 0], marker="o", markersize=4, color=color, label=label)
    axis.fill_between(depths, bands[:, 1], bands[:, 2], color=color, alpha=0.2)
