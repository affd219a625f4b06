"""``result.json`` files, sorted into the entries of a table of results."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optnet_jax.configuration import as_json
from optnet_jax.errors import InputError
from optnet_jax.studies.report import tables
from optnet_jax.training import result
from optnet_jax.training.differences import FREE_FIELDS, flatten, settled

# What may differ between a run and the entry that it counts for: the seed, and where
# and how often something is written.
IGNORED = (
    "name",
    "seed",
    "checkpoint.every_epochs",
    "checkpoint.keep_best",
    *FREE_FIELDS,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A finished run: where it is, and its ``result.json``."""

    path: Path
    result: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.result["seed"]

    @property
    def date(self) -> str:
        """The day (UTC) on which it ended."""
        return self.result["date"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """The runs of one entry of a table, one per seed, by ascending seed."""

    cell: tables.Cell
    runs: tuple[Run, ...]

    def values(self, *keys: str) -> dict[int, float]:
        """One number of the results by seed, such as ``final``, ``top1_error``."""
        found = {}
        for run in self.runs:
            value: Any = run.result
            for key in keys:
                value = value[key]
            found[run.seed] = value
        return found

    @property
    def seconds_per_epoch(self) -> dict[int, float]:
        """Wall time per epoch by seed, compilation and evaluation included."""
        seconds, epochs = self.values("wall_seconds"), self.values("epochs")
        return {seed: seconds[seed] / epochs[seed] for seed in seconds}


def find(directories: Iterable[Path]) -> list[Run]:
    """Read every ``result.json`` under the directories.

    Raises:
        InputError: if a directory does not exist or a file is damaged.
    """
    folders = set()
    for directory in directories:
        if not directory.is_dir():
            raise InputError(f"there is no directory {directory}: give runs' workdirs")
        folders |= {f.parent.resolve() for f in directory.rglob("result.json")}
    return [run for folder in sorted(folders) if (run := read(folder)) is not None]


def read(directory: Path) -> Run | None:
    """Read the result of one run; ``None`` where it has not finished.

    Raises:
        InputError: if the file is damaged.
    """
    found = result.read(directory)
    return None if found is None else Run(directory, found)


def differences(run: Run, expected: Mapping[str, Any]) -> list[str]:
    """Say in what a run's config differs from the one that is asked for.

    A field that one of them lacks has its default; one that this version knows in none
    of its blocks does not count.

    Args:
        run: The run.
        expected: A config, as plain JSON types.

    Returns:
        Lines such as ``schedule.epochs = 1.0, not 300.0``; empty if the run counts.
    """
    ours, theirs = flatten(settled(run.result["config"])), flatten(settled(expected))
    missing = "not set"
    return [
        f"{field} = {ours.get(field, missing)}, not {theirs.get(field, missing)}"
        for field in sorted(ours.keys() | theirs.keys())
        if (field in ours and field in theirs) or field.startswith("model.")
        if ours.get(field, missing) != theirs.get(field, missing)
        if not _ignored(field)
    ]


def _ignored(field: str) -> bool:
    return any(f"{field}.".startswith(f"{name}.") for name in IGNORED)


def sort(
    runs: Sequence[Run], table: tables.Table
) -> tuple[list[Entry], dict[Run, list[str]]]:
    """Sort runs into the entries of a table.

    Args:
        runs: The runs, of this table and others.
        table: The table.

    Returns:
        One entry for each cell, with or without runs, and the runs of the table's
        networks and datasets that do not count, with what sets them apart.

    Raises:
        InputError: if two runs of one entry have the same seed.
    """
    entries, apart = [], {}
    for cell in table.cells():
        chosen: dict[int, Run] = {}
        for run in runs:
            if not _same_place(run, cell):
                continue
            differing = differences(run, as_json(cell.get_config(run.seed)))
            if differing:
                # A table may have several cells of one network: the one it comes near.
                apart[run] = min(apart.get(run, differing), differing, key=len)
                continue
            if run.seed in chosen:
                raise InputError(
                    f"{chosen[run.seed].path} and {run.path} are the same run (seed "
                    f"{run.seed}): give only one of them"
                )
            chosen[run.seed] = run
        entries.append(Entry(cell, tuple(chosen[seed] for seed in sorted(chosen))))
    return entries, apart


def _same_place(run: Run, cell: tables.Cell) -> bool:
    augment = run.result["config"].get("data", {}).get("augment")
    place = (cell.row.network, cell.column.dataset, cell.column.augment)
    return (run.result["network"], run.result["dataset"], augment) == place


def mean_and_deviation(values: Iterable[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (``None`` for a single value)."""
    values = list(values)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), deviation
