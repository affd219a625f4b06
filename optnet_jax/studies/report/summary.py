"""What the report holds: every table's entries and comparisons, as JSON-able data."""

from collections.abc import Sequence
from typing import Any

from optnet_jax.studies import comparison
from optnet_jax.studies.report import published, results, tables

METRICS = ("top1_error", "top5_error")


def summarize(runs: Sequence[results.Run]) -> dict[str, Any]:
    """Sort runs into all tables.

    Returns:
        JSON-able: ``tables``, each with ``entries`` and ``comparisons``; and
        ``other_runs``, which count for no table.

    Raises:
        InputError: if two runs are the same.
    """
    summaries, counted, apart = [], set(), {}
    for table in tables.TABLES.values():
        entries, differing = results.sort(runs, table)
        counted |= {run for entry in entries for run in entry.runs}
        for run, found in differing.items():
            # Several tables may have the network: the entry that it comes nearest to.
            apart[run] = min(apart.get(run, found), found, key=len)
        summaries.append(
            {
                "name": table.name,
                "title": table.title,
                "top5": table.top5,
                "against": table.against,
                "columns": [column.label for column in table.columns],
                "entries": [summarize_entry(entry) for entry in entries],
                "comparisons": summarize_comparisons(entries),
            }
        )
    others = [
        {
            "path": str(run.path),
            "network": run.result["network"],
            "dataset": run.result["dataset"],
            "seed": run.seed,
            **{metric: run.result["final"][metric] for metric in METRICS},
            "differences": apart.get(run, []),
        }
        for run in runs
        if run not in counted
    ]
    return {"tables": summaries, "other_runs": others}


def summarize_entry(entry: results.Entry) -> dict[str, Any]:
    """One entry: the paper's errors, and ours if there are runs."""
    row, column = entry.cell.row, entry.cell.column
    paper = published.in_paper(row.network, column.dataset, column.augment)
    return {
        "model": row.label,
        "network": row.network,
        "column": column.label,
        "value": column.value,
        "dataset": column.dataset,
        "augment": column.augment,
        "paper": paper
        and {
            "top1_error": paper.top1_error,
            "top5_error": paper.top5_error,
            "source": paper.source,
        },
        "ours": summarize_runs(entry) if entry.runs else None,
    }


def summarize_runs(entry: results.Entry) -> dict[str, Any]:
    """Our runs of one entry: mean, sample deviation and each seed's value."""

    def statistics(values: dict[int, float]) -> dict[str, Any]:
        mean, deviation = results.mean_and_deviation(values.values())
        return {"mean": mean, "sd": deviation, "by_seed": values}

    return {
        "seeds": [run.seed for run in entry.runs],
        "last": {m: statistics(entry.values("final", m)) for m in METRICS},
        "best": {"top1_error": statistics(entry.values("best", "top1_error"))},
        "parameters": entry.runs[0].result["parameters"],
        "seconds_per_epoch": statistics(entry.seconds_per_epoch),
        "epochs": entry.runs[0].result["epochs"],
        "dates": sorted({run.date for run in entry.runs}),
        "versions": entry.runs[0].result.get("versions", {}),
        "devices": sorted({run.result["device"] for run in entry.runs}),
    }


def summarize_comparisons(entries: Sequence[results.Entry]) -> list[dict[str, Any]]:
    """Compare each method with its baseline wherever both were run."""
    found = []
    for entry in entries:
        for other in entries:
            same_column = other.cell.column == entry.cell.column
            if other.cell.row.network != entry.cell.row.baseline or not same_column:
                continue
            result = comparison.compare(
                entry.values("final", "top1_error"), other.values("final", "top1_error")
            )
            if result is not None:
                found.append(
                    {
                        "method": entry.cell.row.label,
                        "baseline": other.cell.row.label,
                        "column": entry.cell.column.label,
                        "seeds": result.seeds,
                        "differences": result.differences,
                        "mean": result.mean,
                        "interval": result.interval,
                        "p_value": result.p_value,
                        "least_p_value": result.least_p_value,
                        "verdict": result.verdict,
                    }
                )
    return found
