"""Tables of training runs beside the paper's: 4 and 5, and their like on small sets.

Each cell is a training run, a program of its own in ``<workdir>/runs/<its name>`` that
is resumed and kept like any other; one that was made elsewhere is copied there. Methods
are compared with their baselines by the exact sign-flip test over paired seeds, which
is corrected for the tests of the table.
"""

import dataclasses
import functools
import shlex
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from flax.traverse_util import flatten_dict
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from optnet_jax import data, networks
from optnet_jax.configuration import as_json
from optnet_jax.configuration.overrides import override
from optnet_jax.errors import InputError, shown
from optnet_jax.kinds import OneOf
from optnet_jax.runs import program
from optnet_jax.studies import comparison
from optnet_jax.studies.cells import Row, Store, Unfinished
from optnet_jax.studies.entries import BORROWED, TABLES, Entry, Table
from optnet_jax.studies.kinds import Seeds
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
from optnet_jax.studies.report.runs import IGNORED
from optnet_jax.studies.study import Programs, Report, Study, StudyConfig
from optnet_jax.studies.verdict import together
from optnet_jax.training import result as results
from optnet_jax.training.differences import differing, settled, within
from optnet_jax.training.summary import network
from optnet_jax.training.workdir import read_json


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

    work = 1.0

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
        cut = [change for change in self.overrides if "=" not in change]
        try:
            rest = override(config, self.flags[1:], networks.field_kinds)
        except InputError as error:
            if not cut:
                raise
            raise InputError(
                f"config.overrides={shown(self.overrides)}: {cut[0]!r} is no "
                "field=value; where a value has commas, quote each override, as in "
                "--config.overrides=\"('onednn=False','model.stage_sizes=(1,1)')\""
            ) from error
        if rest or (config.name, config.seed) != own:
            raise InputError(
                f"config.overrides={shown(self.overrides)}: write field=value, for "
                "other fields than name and seed"
            )
        network(config)  # refuses what none could be made of
        return as_json(config)

    @functools.cached_property
    def read_from(self) -> dict[str, Any]:
        """The state of the folder of pictures that it is of; empty for other sets."""
        options = data.Options.of(self.config["data"])
        return data.spec_of(options).read_from() if options.folder else {}


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
        strange += _other_pictures(folder, found["config"], cell)
        if found["seed"] != cell.seed:
            strange.insert(0, f"seed = {found['seed']}, not {cell.seed}")
        if strange:
            raise InputError(
                f"{folder} holds another run ({'; '.join(strange)}): move it away, "
                "choose another --workdir, or give the --config.overrides of that run"
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
            ended = InputError if status == 2 else Unfinished
            raise ended(f"it ended with status {status} and no result")
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


def _other_pictures(run: Path, config: Mapping[str, Any], cell: Cell) -> Iterator[str]:
    """Say if a run was trained on other pictures than its cell's, wherever they lie.

    Where the run does not say what they were, their folder counts.
    """
    was, asked = (each.get("data", {}).get("folder") for each in (config, cell.config))
    if asked:
        before = (read_json(run / "dataset.json") or {}).get("read_from")
        if before != cell.read_from if before else was != asked:
            yield f"data.folder = {was}, not {asked} as it is now"


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
                for row in select(rows, model=own, column=entry.column.label)
            }
            for own in (model, baseline)
        )
        if found := comparison.compare(*both):
            pairs.append((place, found))
    return {"comparisons": together(pairs)}


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
    chosen, rows = TABLES[report["config"]["table"]], report["cells"]
    yield f"## {chosen.title}"
    yield pivot("Model", _printed(chosen, rows))
    paper = any(entry.paper for entry in chosen.entries())
    planned = len(list(chosen.entries())) * len(report["config"]["seeds"])
    yield (
        f"{'Paper / ours' if paper else 'Ours'}: mean ± standard deviation (n seeds). "
        f"{len(rows)} of {planned} runs are finished."
    )
    for row in chosen.rows:
        if row.network in BORROWED:
            yield f"The paper's {row.label}: {BORROWED[row.network]}."
    if report["config"]["overrides"]:
        yield f"Every run with {', '.join(report['config']['overrides'])}."
    if rows:
        entries = [(e, rows_of(rows, e)) for e in chosen.entries()]
        yield table([(e, own) for e, own in entries if own], _DETAILS)
        yield BEST
    if report["comparisons"]:
        yield table(report["comparisons"], _COMPARED)
        yield TEST


def _printed(chosen: Table, rows: Iterable[Row]) -> Iterator[tuple[str, str, str]]:
    metrics = ("top1_error", ", top-1"), ("top5_error", ", top-5")
    printed = metrics if chosen.top5 else (("top1_error", ""),)
    for entry in chosen.entries():
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
    chosen = TABLES[report["config"]["table"]]
    draw = draw_curves if chosen.against else draw_columns
    return {chosen.name: draw(chosen, report["cells"])}


def draw_columns(chosen: Table, rows: Sequence[Row]) -> Figure:
    """Draw each seed as a dot, their mean as a bar, the paper's error as a cross."""
    count = len(chosen.columns)
    figure, axes = panels(-(-count // 2), min(2, count), 5.2, 2.9)
    for column, axis in zip(chosen.columns, axes.flat, strict=True):
        labels = []
        for height, entry in enumerate(
            e for e in chosen.entries() if e.column == column
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
        title = chosen.title.partition(":")[0]
        named = title if column.label in title else f"{title}: {column.label}"
        axis.set_title(named, fontsize=9)
        if not axis.lines:
            axis.set_xticks([])
    return legend(figure, columns=3)


def draw_curves(chosen: Table, rows: Sequence[Row]) -> Figure:
    """Draw each model's mean error over a quantity, with the 95 % interval of it."""
    figure, ((axis,),) = panels(1, 1, 5.2, 3.9)
    for index, model in enumerate(chosen.rows):
        own = {
            entry.column.value: [row["top1_error"] for row in found]
            for entry in chosen.entries()
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
    axis.set_xticks([column.value for column in chosen.columns])
    axis.set_xlabel(chosen.against, fontsize=8)
    axis.set_ylabel("top-1 error (%), last epoch", fontsize=8)
    axis.legend(fontsize=7)
    axis.set_title(chosen.title, fontsize=9)
    return figure


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
