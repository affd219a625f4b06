"""How a table of training runs is shown, beside the paper's: Markdown and a figure."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from optnet_jax.studies import comparison
from optnet_jax.studies.cells import Row
from optnet_jax.studies.entries import BORROWED, TABLES, Entry, Table
from optnet_jax.studies.markdown import (
    each,
    number,
    pivot,
    ranges,
    select,
    table,
    with_sd,
)
from optnet_jax.studies.panels import legend, panels
from optnet_jax.studies.study import Report

BEST = (
    "Errors of the last epoch are the result. The best epoch is chosen by the test "
    "split itself, and so too low by construction. Seconds per epoch are wall time, "
    "compilation and evaluation included."
)
TEST = (
    "Difference: method minus baseline, last epoch, paired by seed (same batches, same "
    "crops). p: two-sided sign-flip test, exact up to 16 seeds; with n seeds it is at "
    "least 2 / 2ⁿ. It speaks of other seeds on this split, not of other images. "
    "Corrected: by Holm's method for the tests of this table; the verdict is at that. "
    "Detectable: the difference that so many seeds find four times in five, by "
    "Student's test and the observed spread."
)


def rows_of(rows: Iterable[Row], entry: Entry) -> list[Row]:
    """Return the runs of an entry."""
    return select(rows, model=entry.row.label, column=entry.column.label)


def text(report: Report) -> Iterator[str]:
    """Return the table in the paper's layout, the runs, and the comparisons."""
    shown, rows = TABLES[report["config"]["table"]], report["cells"]
    yield f"## {shown.title}"
    yield pivot("Model", _printed(shown, rows))
    paper = any(entry.paper for entry in shown.entries())
    planned = len(list(shown.entries())) * len(report["config"]["seeds"])
    yield (
        f"{'Paper / ours' if paper else 'Ours'}: mean ± standard deviation (n seeds). "
        f"{len(rows)} of {planned} runs are finished."
    )
    for row in shown.rows:
        if row.network in BORROWED:
            yield f"The paper's {row.label}: {BORROWED[row.network]}."
    if report["config"]["overrides"]:
        yield f"Every run with {', '.join(report['config']['overrides'])}."
    if rows:
        entries = [(e, rows_of(rows, e)) for e in shown.entries()]
        yield table([(e, own) for e, own in entries if own], _DETAILS)
        yield BEST
    if report["comparisons"]:
        yield table(report["comparisons"], _COMPARED)
        yield TEST


def _printed(shown: Table, rows: Iterable[Row]) -> Iterator[tuple[str, str, str]]:
    metrics = ("top1_error", ", top-1"), ("top5_error", ", top-5")
    printed = metrics if shown.top5 else (("top1_error", ""),)
    for entry in shown.entries():
        own = rows_of(rows, entry)
        for place, (metric, suffix) in enumerate(printed):
            ours = spread([row[metric] for row in own]) if own else "not run"
            if entry.paper:
                ours = f"{entry.paper[place]:.2f} / {ours}"
            yield entry.row.label, entry.column.label + suffix, ours


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation (number of seeds)."""
    return f"{with_sd(values, 2)} (n = {len(values)})"


_DETAILS: Sequence[tuple[str, Callable[[tuple[Entry, list[Row]]], str]]] = (
    ("Model", lambda of: of[0].row.label),
    ("Dataset", lambda of: of[0].column.label),
    ("Seeds", lambda of: ranges(sorted(row["seed"] for row in of[1]))),
    ("Last", lambda of: spread([row["top1_error"] for row in of[1]])),
    ("Best", lambda of: spread([row["best"] for row in of[1]])),
    ("Parameters", lambda of: f"{of[1][0]['parameters']:,}"),
    ("Epochs", lambda of: f"{of[1][0]['epochs']:g}"),
    (
        "s / epoch",
        lambda of: format(
            statistics.fmean(row["wall_seconds"] / row["epochs"] for row in of[1]),
            ".2f",
        ),
    ),
    ("Device", lambda of: each(row["device"] for row in of[1])),
    ("Date", lambda of: each((row["date"] for row in of[1]), ", ")),
)
_COMPARED: Sequence[tuple[str, Callable[[Row], str]]] = (
    ("Compared", lambda row: f"{row['model']} - {row['baseline']}"),
    ("Dataset", lambda row: row["column"]),
    ("n", lambda row: str(len(row["seeds"]))),
    ("Difference", lambda row: f"{row['mean']:+.2f}"),
    (
        "95 % interval",
        lambda row: " to ".join(f"{end:+.2f}" for end in row["interval"] or ()),
    ),
    ("detectable", lambda row: number(row["detectable"], ".2f")),
    ("p", lambda row: f"{row['p_value']:.3g}"),
    ("p, corrected", lambda row: f"{row['p_corrected']:.3g}"),
    ("At 5 %", lambda row: row["verdict"]),
)


def figures(report: Report) -> dict[str, Figure]:
    """Draw the table: a panel for each column, or curves where those are a quantity."""
    shown = TABLES[report["config"]["table"]]
    draw = draw_curves if shown.against else draw_columns
    return {shown.name: draw(shown, report["cells"])}


def draw_columns(shown: Table, rows: Sequence[Row]) -> Figure:
    """Draw each seed as a dot, their mean as a bar, the paper's error as a cross."""
    count = len(shown.columns)
    figure, axes = panels(-(-count // 2), min(2, count), 5.2, 2.9)
    for column, axis in zip(shown.columns, axes.flat, strict=True):
        labels = []
        for height, entry in enumerate(
            e for e in shown.entries() if e.column == column
        ):
            if entry.paper:
                axis.plot(entry.paper[0], height, "x", color="tab:red", label="paper")
            errors = sorted(row["top1_error"] for row in rows_of(rows, entry))
            labels.append(entry.row.label + ("" if errors else " (not run)"))
            if not errors:
                continue
            # Equal errors, which are counts of images, would hide each other.
            repeats = [
                errors[:index].count(error) for index, error in enumerate(errors)
            ]
            heights = [height - 0.08 * (repeat - 1) for repeat in repeats]
            axis.plot(
                errors, heights, "o", c="C0", alpha=0.5, ms=4, label="ours, by seed"
            )
            mean = statistics.fmean(errors)
            axis.plot(mean, height, "k|", ms=16, mew=2, label="ours, mean")
        axis.set_yticks(range(len(labels)), labels, fontsize=8)
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.set_xlabel("top-1 error (%), last epoch", fontsize=8)
        title = shown.title.partition(":")[0]
        named = title if column.label in title else f"{title}: {column.label}"
        axis.set_title(named, fontsize=9)
        if not axis.lines:
            axis.set_xticks([])
    return legend(figure, columns=3)


def draw_curves(shown: Table, rows: Sequence[Row]) -> Figure:
    """Draw each model's mean error over a quantity, with the 95 % interval of it."""
    figure, ((axis,),) = panels(1, 1, 5.2, 3.9)
    for index, model in enumerate(shown.rows):
        own = {
            entry.column.value: [row["top1_error"] for row in found]
            for entry in shown.entries()
            if entry.row == model and (found := rows_of(rows, entry))
        }
        means = [statistics.fmean(errors) for errors in own.values()]
        label = model.label if own else f"{model.label} (not run)"
        axis.plot(list(own), means, "o-", ms=3, color=f"C{index}", label=label)
        ends = [comparison.student_interval(errors) for errors in own.values()]
        ends = [end or (mean, mean) for end, mean in zip(ends, means, strict=True)]
        if ends:
            axis.fill_between(
                list(own), *zip(*ends, strict=True), fc=f"C{index}", alpha=0.12
            )
    axis.set_yscale("log")
    # Student's interval of a few errors may reach below 0.
    least = min((y for line in axis.lines for y in line.get_ydata()), default=1.0)
    axis.set_ylim(bottom=max(least / 3, 1e-2))
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_xticks([column.value for column in shown.columns])
    axis.set_xlabel(shown.against, fontsize=8)
    axis.set_ylabel("top-1 error (%), last epoch", fontsize=8)
    axis.legend(fontsize=7)
    axis.set_title(shown.title, fontsize=9)
    return figure
