"""Plots of one run, drawn from its workdir: learning curve, learned coefficients."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

from optnet_jax.errors import InputError
from optnet_jax.runs import json_lines, picture
from optnet_jax.training import coefficients
from optnet_jax.training.workdir import check_kinds, read_json

matplotlib.use("Agg", force=False)

from matplotlib import pyplot as plt  # noqa: E402 (after the choice of the backend)


def draw(workdir: Path) -> list[Path]:
    """Draw all plots of a run into ``<workdir>/plots``.

    Args:
        workdir: Directory of a run, finished or not.

    Returns:
        The files, ``learning_curve.png`` and, where the network learns coefficients,
        ``coefficients.png``.
    """
    check_kinds(workdir)
    plots = workdir / "plots"
    drawn = [draw_learning_curve(workdir, plots / "learning_curve.png")]
    if _groups(coefficients.read(workdir / "coefficients.npz")):
        drawn.append(draw_coefficients(workdir, plots / "coefficients.png"))
    return drawn


def read_series(workdir: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read one metric of ``metrics.jsonl``.

    Args:
        workdir: Directory of the run.
        name: The metric, such as ``test/top1_error``.

    Returns:
        Epochs [n] and values [n].
    """
    return json_lines.series(json_lines.read(workdir / "metrics.jsonl"), name)


def draw_learning_curve(workdir: Path, file: Path) -> Path:
    """Draw loss and top-1 error over the epochs, training and test."""
    rows = json_lines.read(workdir / "metrics.jsonl")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axis, metric, label in (
        (axes[0], "loss", "cross-entropy"),
        (axes[1], "top1_error", "top-1 error (%)"),
    ):
        for split in ("train", "test"):
            epochs, values = json_lines.series(rows, f"{split}/{metric}")
            axis.plot(epochs, values, label=split)
        axis.set(xlabel="epoch", ylabel=label)
        axis.legend()
    axes[0].set_yscale("log")
    figure.suptitle(_title(workdir), parse_math=False)
    plt.close(figure)
    return picture.save(figure, file, 120)


def draw_coefficients(workdir: Path, file: Path) -> Path:
    """Draw each group of learned coefficients over the epochs, one line each.

    The heavy line is the mean of the group: whether a network drifts away from the
    coefficients that it started with (1 for α) is seen from it.

    Raises:
        InputError: if the run has learned none.
    """
    learned = coefficients.read(workdir / "coefficients.npz")
    groups = _groups(learned)
    if not groups:
        raise InputError(
            f"{workdir} has no learned coefficients: set --config.model.learned"
        )
    epochs = learned["epoch"]
    figure, axes = plt.subplots(
        1,
        len(groups),
        figsize=(max(5, 3.2 * len(groups)), 3.5),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axis, (name, values) in zip(axes[0], groups.items(), strict=True):
        values = values.reshape(len(epochs), -1)
        axis.plot(epochs, values, color="tab:blue", alpha=0.35, linewidth=0.8)
        axis.plot(epochs, values.mean(1), color="black", linewidth=2)
        axis.set(xlabel="epoch", title=f"{name} ({values.shape[1]})")
        axis.title.set_parse_math(False)
    axes[0][0].set_ylabel("coefficient")
    figure.suptitle(_title(workdir), parse_math=False)
    plt.close(figure)
    return picture.save(figure, file, 120)


def _groups(learned: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {n: a for n, a in learned.items() if n not in ("step", "epoch")}


def _title(workdir: Path) -> str:
    config = read_json(workdir / "config.json") or {}
    return str(config.get("name", ""))
