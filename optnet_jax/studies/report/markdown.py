"""The report as Markdown; see :mod:`optnet_jax.studies.report` for its data."""

from collections.abc import Iterable, Sequence
from typing import Any

from optnet_jax.studies.tables import markdown_table

NOT_RUN = "not run"


def render(summary: dict[str, Any]) -> str:
    """The whole report.

    Args:
        summary: From ``report.summarize``.
    """
    parts = [part for table in summary["tables"] for part in _table(table)]
    if summary["other_runs"]:
        parts.append("## Runs that count for no table")
        parts.append("\n".join(map(_other_run, summary["other_runs"])))
    return "\n\n".join(parts) + "\n"


def _table(table: dict[str, Any]) -> list[str]:
    parts = [f"## {table['title']}", _overview(table)]
    run = [entry for entry in table["entries"] if entry["ours"]]
    if run:
        parts += [_details(run), BEST]
    if table["comparisons"]:
        parts += [_comparisons(table["comparisons"]), TEST]
    return parts


BEST = (
    "Errors of the last epoch are the result. The best epoch is chosen by the test "
    "split itself, and so too low by construction. Seconds per epoch are wall time, "
    "compilation and evaluation included."
)

TEST = (
    "Difference: method minus baseline, last epoch, paired by seed (same batches, same "
    "crops). p: exact two-sided sign-flip test; with n seeds it is at least 2 / 2ⁿ. It "
    "speaks of other seeds on this split, not of other images."
)


def _overview(table: dict[str, Any]) -> str:
    """The table in the paper's layout: paper / ours."""
    metrics = ["top1_error", "top5_error"] if table["top5"] else ["top1_error"]
    header = [
        f"{column}, {metric.removesuffix('_error').replace('top', 'top-')}"
        if table["top5"]
        else column
        for column in table["columns"]
        for metric in metrics
    ]
    entries = {(e["model"], e["column"]): e for e in table["entries"]}
    models = list(dict.fromkeys(entry["model"] for entry in table["entries"]))
    rows = [
        [model]
        + [
            both(entries[model, column], metric)
            for column in table["columns"]
            for metric in metrics
        ]
        for model in models
    ]
    paper = any(entry["paper"] for entry in table["entries"])
    legend = (
        f"{'Paper / ours' if paper else 'Ours'}: mean ± standard deviation (n seeds)."
    )
    return f"{markdown_table(['Model', *header], rows)}\n\n{legend}"


def both(entry: dict[str, Any], metric: str) -> str:
    """The paper's error, if it has one, and ours."""
    ours = entry["ours"]
    mine = NOT_RUN if ours is None else spread(ours["last"][metric], len(ours["seeds"]))
    if entry["paper"] is None:
        return mine
    return f"{entry['paper'][metric]:.2f} / {mine}"


def spread(values: dict[str, Any], number: int) -> str:
    """Mean ± standard deviation (number of seeds)."""
    deviation = "" if values["sd"] is None else f" ± {values['sd']:.2f}"
    return f"{values['mean']:.2f}{deviation} (n = {number})"


def _details(entries: Iterable[dict[str, Any]]) -> str:
    rows = []
    for entry in entries:
        ours = entry["ours"]
        number = len(ours["seeds"])
        rows.append(
            [
                entry["model"],
                entry["column"],
                seeds(ours["seeds"]),
                spread(ours["last"]["top1_error"], number),
                spread(ours["best"]["top1_error"], number),
                f"{ours['parameters']:,}",
                f"{ours['epochs']:g}",
                f"{ours['seconds_per_epoch']['mean']:.2f}",
                "; ".join(ours["devices"]),
                ", ".join(ours["dates"]),
            ]
        )
    header = ["Model", "Dataset", "Seeds", "Last", "Best", "Parameters", "Epochs"]
    return markdown_table([*header, "s / epoch", "Device", "Date"], rows)


def seeds(values: Sequence[int]) -> str:
    """A list of seeds, a range where it is one.

    >>> seeds([0, 1, 2]), seeds([0, 4])
    ('0-2', '0, 4')
    """
    if len(values) > 2 and list(values) == list(range(values[0], values[-1] + 1)):
        return f"{values[0]}-{values[-1]}"
    return ", ".join(map(str, values))


def _comparisons(comparisons: Iterable[dict[str, Any]]) -> str:
    rows = []
    for entry in comparisons:
        interval = entry["interval"]
        rows.append(
            [
                f"{entry['method']} - {entry['baseline']}",
                entry["column"],
                str(len(entry["seeds"])),
                f"{entry['mean']:+.2f}",
                f"{interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "",
                f"{entry['p_value']:.3g}",
                entry["verdict"],
            ]
        )
    header = ["Compared", "Dataset", "n", "Difference", "95 % interval", "p", "At 5 %"]
    return markdown_table(header, rows)


def _other_run(run: dict[str, Any]) -> str:
    why = "; ".join(run["differences"]) or "no table has this network and dataset"
    return (
        f"- {run['path']}: {run['network']} on {run['dataset']}, seed {run['seed']}, "
        f"top-1 error {run['top1_error']:.2f} % ({why})"
    )
