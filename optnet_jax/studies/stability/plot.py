"""The pictures: spectral radius against λ, norms against depth, loss against rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from optnet_jax.runs import picture

matplotlib.use("Agg", force=False)

from matplotlib import pyplot as plt  # noqa: E402 (after the choice of the backend)

# More recurrences than one cycle of colours tells apart at a glance.
STYLES = ("-", "--", ":")
TOP = 3.0


def draw(report: dict[str, Any], folder: Path) -> list[Path]:
    """Draw ``roots.png``, ``norms.png`` and ``trial.png``.

    Args:
      report: of :func:`~optnet_jax.studies.stability.report.collect`.
      folder: where; made where it is missing.

    Returns:
      The files.
    """
    return [
        draw_roots(report["roots"], folder / "roots.png"),
        draw_norms(report["norms"], folder / "norms.png"),
        draw_trial(report, folder / "trial.png"),
    ]


def draw_roots(roots: list[dict[str, Any]], file: Path) -> Path:
    """Draw the spectral radius of each recurrence over T(x) = λ x."""
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    for index, entry in enumerate(roots):
        axis.plot(
            entry["slopes"], np.array(entry["radius_by_slope"], float),
            STYLES[index % 3], label=entry["name"],
        )  # fmt: skip
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set(xlabel="λ, the slope of T", ylabel="largest modulus of a root")
    figure.legend(loc="outside right upper", fontsize=8)
    plt.close(figure)
    return picture.save(figure, file, 100)


def draw_norms(norms: list[dict[str, Any]], file: Path) -> Path:
    """Draw signal and gradient norms against depth."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for index, entry in enumerate(norms):
        signal = np.array(entry["signal"], float)
        gradient = np.array(entry["gradient"], float)
        layers = np.arange(1, len(signal) + 1)
        style = STYLES[index % 3]
        axes[0].plot(layers, signal / signal[0], style, label=entry["name"])
        axes[1].plot(layers, gradient / gradient[-1], style)
    axes[0].set(title="signal x_k / x_1", xlabel="layer k", yscale="log")
    axes[1].set(title="gradient at k / at K", xlabel="layer k", yscale="log")
    for axis in axes:
        axis.axhline(1, color="black", linewidth=0.8)
    figure.legend(loc="outside right upper", fontsize=8)
    plt.close(figure)
    return picture.save(figure, file, 100)


def draw_trial(report: dict[str, Any], file: Path) -> Path:
    """Draw the final loss against the learning rate, a panel for each depth."""
    settings = report["config"]["trial"]
    depths, kinds = settings["depths"], settings["normalize"]
    axes: Any
    figure, axes = plt.subplots(
        len(kinds), len(depths), figsize=(4 * len(depths), 3 * len(kinds)),
        sharex=True, sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for cell in report["cells"]:
        normalize = cell["normalize"]
        axis = axes[kinds.index(normalize), depths.index(cell["depth"])]
        loss = np.array(cell["final_loss"], float)
        capped = np.where(np.isfinite(loss), loss, np.inf).clip(max=TOP)
        low, middle, high = np.quantile(capped, (0.25, 0.5, 0.75), axis=1)
        rates = settings["learning_rates"]
        axis.plot(rates, middle, marker=".", label=cell["structure"])
        axis.fill_between(rates, low, high, alpha=0.2)
        kind = "with" if normalize else "without"
        axis.set(title=f"{cell['depth']} layers, {kind} BN", xscale="log")
    for axis in axes.flat:
        axis.axhline(settings["failed_above"], color="black", linewidth=0.8)
    figure.supxlabel("learning rate")
    figure.supylabel(f"final loss, {TOP:g} where it is larger or diverged")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    plt.close(figure)
    return picture.save(figure, file, 100)
