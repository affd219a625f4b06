"""Plots of one run, drawn from its workdir: learning curve, learned coefficients."""

import json
from pathlib import Path

import matplotlib
import numpy as np

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
    plots = workdir / "plots"
    plots.mkdir(exist_ok=True)
    files = [draw_learning_curve(workdir, plots / "learning_curve.png")]
    if (workdir / "coefficients.npz").exists():
        files.append(draw_coefficients(workdir, plots / "coefficients.png"))
    return files


def read_series(workdir: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read one metric of ``metrics.jsonl``.

    Args:
        workdir: Directory of the run.
        name: The metric, such as ``test/top1_error``.

    Returns:
        Epochs [n] and values [n].
    """
    lines = (workdir / "metrics.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if name in row]
    return (
        np.array([row["epoch"] for row in rows]),
        np.array([row[name] for row in rows]),
    )


def draw_learning_curve(workdir: Path, file: Path) -> Path:
    """Draw loss and top-1 error over the epochs, training and test."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axis, metric, label in (
        (axes[0], "loss", "cross-entropy"),
        (axes[1], "top1_error", "top-1 error (%)"),
    ):
        for split in ("train", "test"):
            epochs, values = read_series(workdir, f"{split}/{metric}")
            axis.plot(epochs, values, label=split)
        axis.set(xlabel="epoch", ylabel=label)
        axis.legend()
    axes[0].set_yscale("log")
    figure.suptitle(_title(workdir))
    figure.savefig(file, dpi=120)
    plt.close(figure)
    return file


def draw_coefficients(workdir: Path, file: Path) -> Path:
    """Draw each group of learned coefficients over the epochs, one line each.

    The heavy line is the mean of the group: whether a network drifts away from the
    coefficients that it started with (1 for α) is seen from it.
    """
    with np.load(workdir / "coefficients.npz") as data:
        epochs = data["epoch"]
        groups = {n: data[n] for n in data.files if n not in ("step", "epoch")}
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
    axes[0][0].set_ylabel("coefficient")
    figure.suptitle(_title(workdir))
    figure.savefig(file, dpi=120)
    plt.close(figure)
    return file


def _title(workdir: Path) -> str:
    file = workdir / "config.json"
    return json.loads(file.read_text("utf-8"))["name"] if file.exists() else ""
