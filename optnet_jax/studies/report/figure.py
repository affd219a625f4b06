"""The report as a picture: the paper's errors and our runs, entry by entry."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg", force=False)

from matplotlib import pyplot as plt  # noqa: E402 (after the choice of the backend)
from matplotlib.lines import Line2D  # noqa: E402


def draw(summary: dict[str, Any], file: Path) -> Path:
    """Draw one panel for each column of each table.

    Each seed is a dot, their mean a bar, the paper's value a cross; an entry that
    nobody has run has the cross alone.

    Args:
        summary: From ``report.summarize``.
        file: The picture.

    Returns:
        The file.
    """
    panels = [
        (table, column) for table in summary["tables"] for column in table["columns"]
    ]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(5.2 * columns, 2.9 * rows),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, (table, column) in zip(axes.flat, panels, strict=False):
        entries = [e for e in table["entries"] if e["column"] == column]
        draw_panel(axis, entries)
        axis.set_title(f"{table['title'].partition(':')[0]}: {column}", fontsize=9)
    handles = [
        Line2D([], [], color="tab:red", marker="x", ls="", label="paper"),
        Line2D([], [], color="tab:blue", marker="o", ls="", label="ours, by seed"),
        Line2D([], [], color="black", marker="|", ls="", label="ours, mean"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.savefig(file, dpi=120)
    plt.close(figure)
    return file


def draw_panel(axis: Any, entries: list[dict[str, Any]]) -> None:
    """Draw one column of a table, one line for each of its entries."""
    for height, entry in enumerate(entries):
        if entry["paper"]:
            axis.plot(entry["paper"]["top1_error"], height, "x", color="tab:red")
        if entry["ours"]:
            ours = entry["ours"]["last"]["top1_error"]
            values = sorted(ours["by_seed"].values())
            # Equal errors, which are counts of images, would hide each other.
            repeats = [values[:index].count(v) for index, v in enumerate(values)]
            heights = [height - 0.08 * (repeat - 1) for repeat in repeats]
            axis.plot(values, heights, "o", color="tab:blue", alpha=0.5, ms=4)
            axis.plot(ours["mean"], height, "|", color="black", ms=16, mew=2)
    labels = [e["model"] if e["ours"] else f"{e['model']} (not run)" for e in entries]
    axis.set_yticks(range(len(entries)), labels, fontsize=8)
    axis.set_ylim(len(entries) - 0.5, -0.5)
    axis.set_xlabel("top-1 error (%), last epoch", fontsize=8)
    if not any(e["paper"] or e["ours"] for e in entries):
        axis.set_xticks([])
