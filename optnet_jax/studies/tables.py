"""Tables of training runs beside the paper's: 4 and 5, and their like on small sets.

Each cell is a training run, a program of its own in ``<workdir>/runs/<its name>`` that
is resumed and kept like any other; one that was made elsewhere is copied there. Methods
are compared with their baselines by the exact sign-flip test over paired seeds, which
is corrected for the tests of the table.
"""

import dataclasses
import functools
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from flax.traverse_util import flatten_dict

from optnet_jax import networks
from optnet_jax.configuration import as_json
from optnet_jax.configuration.overrides import override
from optnet_jax.errors import InputError, shown
from optnet_jax.kinds import OneOf
from optnet_jax.runs import program
from optnet_jax.studies import comparison
from optnet_jax.studies.cells import Row, Store
from optnet_jax.studies.entries import TABLES, Entry
from optnet_jax.studies.kinds import Seeds
from optnet_jax.studies.markdown import select
from optnet_jax.studies.report.runs import IGNORED
from optnet_jax.studies.study import Programs, Report, Study, StudyConfig
from optnet_jax.studies.table_views import figures, text
from optnet_jax.studies.verdict import together
from optnet_jax.training import result as results
from optnet_jax.training.differences import differing, settled, within
from optnet_jax.training.summary import network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
    """The fields of ``configs/tables.py``, which says what each is."""

    table: Annotated[str, OneOf(tuple(TABLES))]
    seeds: Seeds
    overrides: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training run: an entry of the table, a seed, and what every config is given.

    Raises:
        InputError: for an override that no run could take, or of what tells runs apart.
    """

    entry: Entry
    seed: int
    overrides: tuple[str, ...] = ()
    work: float = 1.0

    @property
    def name(self) -> str:
        """Name of its config."""
        return self.config["name"]

    @functools.cached_property
    def flags(self) -> list[str]:
        """What it is run with besides ``--workdir``."""
        changes = [f"--config.{change}" for change in self.overrides]
        return [f"--config={self.entry.config_flag(self.seed)}", *changes]

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """What it is to be run with, in plain JSON types."""
        config = self.entry.get_config(self.seed)
        own = config.name, config.seed
        rest = override(config, self.flags[1:], networks.field_kinds)
        if rest or (config.name, config.seed) != own:
            raise InputError(
                f"config.overrides={shown(self.overrides)}: write field=value, for "
                "other fields than name and seed"
            )
        network(config)  # refuses what none could be made of
        return as_json(config)


def plan(config: Config) -> list[Cell]:
    """List the runs seed by seed, so that a part of them is a whole table."""
    entries = list(TABLES[config.table].entries())
    cells = [Cell(e, s, config.overrides) for s in config.seeds for e in entries]
    for cell in cells:
        cell.config  # noqa: B018 (which refuses what could not be run)
    return cells


class Runs(Store[Cell]):
    """What training runs have left in their workdirs.

    Args:
        cells: Of the study.
        workdir: Of the study.
    """

    def __init__(self, cells: Iterable[Cell], workdir: Path):
        folder = workdir / "runs"
        self._stopping = threading.Event()
        super().__init__({cell: folder / cell.name for cell in cells}, folder.glob("*"))

    def read(self, cell: Cell) -> Row | None:
        """Return what the report needs of a run that has finished.

        Raises:
            InputError: its directory holds another run, which is not replaced.
        """
        folder = self.places[cell]
        try:
            found = results.read(folder)
        except results.DamagedResultError as error:
            program.say_error(str(error))  # as the run does, which is not finished so
            return None
        if found is None:
            return None
        strange = differences(found["config"], cell.config)
        if found["seed"] != cell.seed:
            strange.insert(0, f"seed = {found['seed']}, not {cell.seed}")
        if strange:
            raise InputError(
                f"{folder} holds another run ({'; '.join(strange)}): move it away or "
                "choose another --workdir"
            )
        return {
            "model": cell.entry.row.label,
            "column": cell.entry.column.label,
            "seed": cell.seed,
            "top1_error": found["final"]["top1_error"],
            "top5_error": found["final"]["top5_error"],
            "best": found["best"]["top1_error"],
            **{name: found[name] for name in ("network", "parameters", "epochs")},
            **{name: found[name] for name in ("wall_seconds", "date", "device")},
            **{name: found.get(name) for name in ("versions", "commit", "checksum")},
        }

    def begin(self) -> Callable[[Cell], Row]:
        """Return what runs a cell's command until it has a result."""
        return self._measure

    def _measure(self, cell: Cell) -> Row:
        status = self.start(self._arguments(cell), self._stopping)
        row = self.read(cell)
        if row is None:
            raise InputError(f"it ended with status {status} and no result")
        return row

    @staticmethod
    def start(arguments: Sequence[str], stopping: threading.Event) -> int:
        """Run ``python``, return its status; a request to stop is handed on, once."""
        command = [sys.executable, *arguments]
        # A session of its own: from a terminal Ctrl-C would reach it as well, and a
        # second signal ends a run without saving.
        process = subprocess.Popen(command, start_new_session=True)
        while process.poll() is None and not stopping.wait(0.1):
            pass
        process.terminate()  # nothing, where it has ended
        return process.wait()

    def _arguments(self, cell: Cell) -> list[str]:
        flags = [cell.flags[0], f"--workdir={self.places[cell]}", *cell.flags[1:]]
        return ["-m", "optnet_jax.main", *flags]

    def left(self, cell: Cell) -> str:
        """Return a run's command, to be pasted into a shell."""
        return shlex.join(["python", *self._arguments(cell)])

    def stop(self) -> None:
        """Let what runs save its state and end."""
        self._stopping.set()


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Say in what a run's config differs from the one that is asked for.

    A field that one of them lacks has its default; one that this version knows in none
    of its blocks does not count.

    Returns:
        Lines such as ``schedule.epochs = 1.0, not 300.0``; empty if the run counts.
    """
    ours, theirs = (flatten_dict(settled(c), sep=".") for c in (ours, theirs))
    return [
        f"{field} = {value}, not {asked}"
        for field, value, asked in differing(ours, theirs)
        if (field in ours and field in theirs) or field.startswith("model.")
        if not within(field, IGNORED)
    ]


def conclude(config: Config, rows: list[Row]) -> Report:
    """Compare each method with its baseline, wherever both were run.

    Returns:
        ``comparisons``, corrected together.
    """
    pairs = []
    for entry in TABLES[config.table].entries():
        model, baseline = entry.row.label, entry.row.baseline
        place = {"model": model, "baseline": baseline, "column": entry.column.label}
        both = (
            {
                row["seed"]: row["top1_error"]
                for row in select(rows, model=each, column=entry.column.label)
            }
            for each in (model, baseline)
        )
        if found := comparison.compare(*both):
            pairs.append((place, found))
    return {"comparisons": together(pairs)}


STUDY = Study(
    name="tables",
    config=Config,
    plan=plan,
    measurement=Programs(Runs, ("table",)),  # more seeds are more runs of one
    outcome=lambda row: f"{row['top1_error']:.2f} % (best {row['best']:.2f} %)",
    text=text,
    figures=figures,
    conclude=conclude,
)
