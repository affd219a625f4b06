"""The report as a picture: the paper's errors and our runs, entry by entry."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from optnet_jax.runs import picture
from optnet_jax.studies.comparison import student_interval

Entries = list[dict[str, Any]]


def draw(summary: dict[str, Any], file: Path) -> Path:
    """Draw the tables that have a run, or all of them if none has.

    A panel for each column: each seed is a dot, their mean a bar, the paper's value a
    cross; an entry that nobody has run has the cross alone. Where the columns differ in
    a quantity, one panel: means over it, with the 95 % intervals of the means.

    Args:
        summary: From ``summary.summarize``.
        file: The picture.
    """
    tables = [t for t in summary["tables"] if any(e["ours"] for e in t["entries"])]
    panels = [p for table in tables or summary["tables"] for p in panels_of(table)]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 2.9 * rows), layout="constrained")
    for index, (title, against, entries) in enumerate(panels):
        axis = figure.add_subplot(rows, columns, index + 1)
        if against:
            draw_curves(axis, entries, against)
        else:
            draw_panel(axis, entries)
        axis.set_title(title, fontsize=9)
    if not all(against for _, against, _ in panels):
        handles = [
            Line2D([], [], color="tab:red", marker="x", ls="", label="paper"),
            Line2D([], [], color="tab:blue", marker="o", ls="", label="ours, by seed"),
            Line2D([], [], color="black", marker="|", ls="", label="ours, mean"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return picture.save(figure, file, 120)


def panels_of(table: dict[str, Any]) -> list[tuple[str, str, Entries]]:
    """Return a table's panels: title, quantity of a curve or nothing, entries."""
    if table["against"]:
        return [(table["title"], table["against"], table["entries"])]
    title, panels = table["title"].partition(":")[0], {}
    for entry in table["entries"]:
        panels.setdefault(entry["column"], []).append(entry)
    return [(f"{title}: {column}", "", entries) for column, entries in panels.items()]


def draw_curves(axis: Any, entries: Entries, against: str) -> None:
    """Draw each model's mean error over a quantity, with the interval of the mean."""
    for index, model in enumerate(dict.fromkeys(e["model"] for e in entries)):
        run = [e for e in entries if e["model"] == model and e["ours"]]
        values = [e["value"] for e in run]
        errors = [e["ours"]["last"]["top1_error"] for e in run]
        means = [error["mean"] for error in errors]
        ends = [
            student_interval(list(error["by_seed"].values())) or (error["mean"],) * 2
            for error in errors
        ]
        style = {"color": f"C{index}", "label": model if run else f"{model} (not run)"}
        axis.plot(values, means, "o-", ms=3, **style)
        if ends:
            axis.fill_between(
                values, *zip(*ends, strict=True), fc=f"C{index}", alpha=0.12
            )
    axis.set_yscale("log")
    # Student's interval of a few errors may reach below 0.
    least = min((y for line in axis.lines for y in line.get_ydata()), default=1.0)
    axis.set_ylim(bottom=max(least / 3, 1e-2))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_xlabel(against, fontsize=8)
    axis.set_ylabel("top-1 error (%), last epoch", fontsize=8)
    axis.legend(fontsize=7)


def draw_panel(axis: Any, entries: Entries) -> None:
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
