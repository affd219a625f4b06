"""The report as Markdown; see :mod:`optnet_jax.studies.report.summary` for its data."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optnet_jax.studies.tables import markdown_table, number, with_sd

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


def render(summary: Mapping[str, Any]) -> str:
    """Return the whole report.

    Args:
        summary: From ``summary.summarize``.
    """
    parts = [part for table in summary["tables"] for part in _table(table)]
    if summary["other_runs"]:
        parts.append("## Runs that count for no table")
        parts.append("\n".join(map(_other_run, summary["other_runs"])))
    return "\n\n".join(parts) + "\n"


def _table(table: Mapping[str, Any]) -> Iterable[str]:
    paper = any(entry["paper"] for entry in table["entries"])
    ours = "Paper / ours" if paper else "Ours"
    yield f"## {table['title']}"
    yield _overview(table)
    yield f"{ours}: mean ± standard deviation (n seeds)."
    run = [entry for entry in table["entries"] if entry["ours"]]
    if run:
        yield from (_details(run), BEST)
    if table["comparisons"]:
        yield from (_comparisons(table["comparisons"]), TEST)


def _overview(table: Mapping[str, Any]) -> str:
    """Return the table in the paper's layout: paper / ours."""
    metrics = {"top1_error": ", top-1", "top5_error": ", top-5"}
    if not table["top5"]:
        metrics = {"top1_error": ""}
    header = [f"{c}{suffix}" for c in table["columns"] for suffix in metrics.values()]
    rows: dict[str, list[str]] = {}
    for entry in table["entries"]:
        both = [_both(entry, metric) for metric in metrics]
        rows.setdefault(entry["model"], []).extend(both)
    return markdown_table(["Model", *header], [[m, *row] for m, row in rows.items()])


def _both(entry: Mapping[str, Any], metric: str) -> str:
    """Return the paper's error, if it has one, and ours."""
    ours, paper = entry["ours"], entry["paper"]
    mine = spread(ours["last"][metric]) if ours else "not run"
    return f"{paper[metric]:.2f} / {mine}" if paper else mine


def spread(values: Mapping[str, Any]) -> str:
    """Mean ± standard deviation (number of seeds)."""
    by_seed = list(values["by_seed"].values())
    return f"{with_sd(by_seed, 2)} (n = {len(by_seed)})"


def _details(entries: Iterable[Mapping[str, Any]]) -> str:
    header = ["Model", "Dataset", "Seeds", "Last", "Best", "Parameters", "Epochs"]
    rows = [
        [
            entry["model"],
            entry["column"],
            seeds(ours["seeds"]),
            spread(ours["last"]["top1_error"]),
            spread(ours["best"]["top1_error"]),
            f"{ours['parameters']:,}",
            f"{ours['epochs']:g}",
            f"{ours['seconds_per_epoch']['mean']:.2f}",
            "; ".join(ours["devices"]),
            ", ".join(ours["dates"]),
        ]
        for entry in entries
        for ours in [entry["ours"]]
    ]
    return markdown_table([*header, "s / epoch", "Device", "Date"], rows)


def seeds(values: Sequence[int]) -> str:
    """Return a list of seeds, a range where it is one.

    >>> seeds([0, 1, 2]), seeds([0, 4])
    ('0-2', '0, 4')
    """
    if len(values) > 2 and list(values) == list(range(values[0], values[-1] + 1)):
        return f"{values[0]}-{values[-1]}"
    return ", ".join(map(str, values))


def _comparisons(comparisons: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{found['method']} - {found['baseline']}",
            found["column"],
            str(len(found["seeds"])),
            f"{found['mean']:+.2f}",
            " to ".join(f"{end:+.2f}" for end in found["interval"] or ()),
            number(found["detectable"], ".2f"),
            f"{found['p_value']:.3g}",
            f"{found['p_corrected']:.3g}",
            found["verdict"],
        ]
        for found in comparisons
    ]
    header = ["Compared", "Dataset", "n", "Difference", "95 % interval", "detectable"]
    return markdown_table([*header, "p", "p, corrected", "At 5 %"], rows)


def _other_run(run: Mapping[str, Any]) -> str:
    why = "; ".join(run["differences"]) or "no table has this network and dataset"
    return (
        f"- {run['path']}: {run['network']} on {run['dataset']}, seed {run['seed']}, "
        f"top-1 error {run['top1_error']:.2f} % ({why})"
    )
