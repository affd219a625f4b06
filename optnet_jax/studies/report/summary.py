"""What the report holds: every table's entries and comparisons, as JSON-able data."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optnet_jax.studies import comparison
from optnet_jax.studies.report import entries
from optnet_jax.studies.report.runs import Run, place
from optnet_jax.studies.tables import mean_and_sd
from optnet_jax.studies.verdict import together

METRICS = ("top1_error", "top5_error")
Placed = Mapping[entries.Cell, Sequence[Run]]


def summarize(runs: Iterable[Run]) -> dict[str, Any]:
    """Sort runs into all tables.

    Returns:
        JSON-able: ``tables``, each with ``entries`` and ``comparisons``; and
        ``other_runs``, which count for no table.

    Raises:
        InputError: if two runs are the same.
    """
    placed, apart = place(runs)
    return {
        "tables": [_table(table, placed) for table in entries.TABLES.values()],
        "other_runs": [
            {
                "path": str(run.path),
                "network": run.result["network"],
                "dataset": run.result["dataset"],
                "seed": run.seed,
                **{metric: run.result["final"][metric] for metric in METRICS},
                "differences": differences,
            }
            for run, differences in apart.items()
        ],
    }


def _table(table: entries.Table, placed: Placed) -> dict[str, Any]:
    return {
        "name": table.name,
        "title": table.title,
        "top5": table.top5,
        "against": table.against,
        "columns": [column.label for column in table.columns],
        "entries": [
            _entry(table, cell, placed.get(cell, ())) for cell in table.cells()
        ],
        "comparisons": _comparisons(table, placed),
    }


def _entry(
    table: entries.Table, cell: entries.Cell, runs: Sequence[Run]
) -> dict[str, Any]:
    """Return one entry: the paper's errors, and ours if there are runs."""
    row, column = cell.row, cell.column
    source = entries.BORROWED.get(row.network, table.title.partition(":")[0])
    printed = dict.fromkeys(METRICS) | dict(zip(METRICS, cell.paper, strict=False))
    return {
        "model": row.label,
        "network": row.network,
        "column": column.label,
        "value": column.value,
        "dataset": column.dataset,
        "augment": column.augment,
        "paper": printed | {"source": source} if cell.paper else None,
        "ours": _ours(runs) if runs else None,
    }


def _ours(runs: Sequence[Run]) -> dict[str, Any]:
    """Our runs of one entry: mean, sample deviation and each seed's value."""

    def statistics(values: dict[int, float]) -> dict[str, Any]:
        mean, deviation = mean_and_sd(list(values.values()))
        return {"mean": mean, "sd": deviation, "by_seed": values}

    first = runs[0].result
    seconds = {r.seed: r.result["wall_seconds"] / r.result["epochs"] for r in runs}
    return {
        "seeds": [run.seed for run in runs],
        "last": {metric: statistics(errors(runs, metric)) for metric in METRICS},
        "best": {"top1_error": statistics(errors(runs, "top1_error", "best"))},
        "parameters": first["parameters"],
        "seconds_per_epoch": statistics(seconds),
        "epochs": first["epochs"],
        "dates": sorted({run.result["date"] for run in runs}),
        "versions": first.get("versions", {}),
        "devices": sorted({run.result["device"] for run in runs}),
    }


def errors(runs: Iterable[Run], metric: str, which: str = "final") -> dict[int, float]:
    """Return one error (%) of finished runs by seed, last epoch's or ``best``."""
    return {run.seed: run.result[which][metric] for run in runs}


def _comparisons(table: entries.Table, placed: Placed) -> list[dict[str, Any]]:
    """Compare each method with its baseline wherever both were run.

    The verdicts are at p-values that are corrected for the number of tests of a table.
    """
    pairs = []
    cells = {(cell.row.label, cell.column): cell for cell in table.cells()}
    for cell in table.cells():
        other = cells.get((cell.row.baseline, cell.column))
        if other is None:
            continue
        ours, theirs = (errors(placed.get(c, ()), "top1_error") for c in (cell, other))
        found = comparison.compare(ours, theirs)
        if found is not None:
            labels = cell.row.label, other.row.label, cell.column.label
            names = "method", "baseline", "column"
            pairs.append((dict(zip(names, labels, strict=True)), found))
    return together(pairs)
