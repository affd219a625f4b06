"""The form of a study: a plan of cells, a measurement of one, and views of the rows.

A study is one file of this folder with its config's fields, a :class:`Study` named
``STUDY``, and what that needs, and one file in ``configs/`` whose ``experiment`` is the
name of the module. All else is here: cells that are there are not worked out again, and
the rows are kept with what they were made from as JSON, told in Markdown, and drawn.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from matplotlib.figure import Figure

from optnet_jax import data
from optnet_jax.configuration import Block, Config, as_json
from optnet_jax.configuration.train import Name
from optnet_jax.errors import InputError
from optnet_jax.runs import files, picture
from optnet_jax.runs.progress import say
from optnet_jax.studies.cells import (
    CURE,
    AnyCell,
    Files,
    Row,
    Store,
    complete,
    finite,
    provenance,
    read_json,
)
from optnet_jax.studies.kinds import Workers
from optnet_jax.studies.markdown import each
from optnet_jax.training.differences import config_differences, listed
from optnet_jax.training.result import commit
from optnet_jax.training.workdir import Workdir, named_write_errors, write_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig(Block):
    """The fields that every study's config has.

    Attributes:
        name: Of the run.
        experiment: Name of the study.
        parallel_cells: Cells that are worked out at once on a CPU.
    """

    name: Name
    experiment: str
    parallel_cells: Workers = 1


Report = dict[str, Any]
"""What ``<name>.json`` holds: provenance, ``cells`` (the rows), and the conclusions."""

AnyConfig = TypeVar("AnyConfig", bound=StudyConfig)
DPI = 110


@dataclasses.dataclass(frozen=True)
class Programs(Generic[AnyCell]):
    """Of a study whose cells are programs of their own, in place of a measurement.

    They compute while this one starts no device. The study has a report at any time;
    its views bear with rows that are missing.

    Attributes:
        store: cells, workdir -> what the programs leave, and how one is run.
        bound: the fields of the config that a workdir is bound to.
    """

    store: Callable[[Sequence[AnyCell], Path], Store[AnyCell]]
    bound: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Study(Generic[AnyConfig, AnyCell]):
    """A study as data.

    Attributes:
        name: of its module, of ``config.experiment``, and of the files that it writes.
        config: its fields, with kinds and ranges.
        plan: config -> the cells, each once; refuses what cannot be run before anything
            slow.
        measurement: config -> the function that measures a cell. Called where a cell is
            missing: what all cells share, such as images, is made in it. Or programs.
        outcome: a row -> what is printed of it, behind the name of its cell.
        text: report -> paragraphs and tables in Markdown.
        figures: report -> figures by the name of their file.
        conclude: config, rows -> what is worked out from all of them.
    """

    name: str
    config: type[AnyConfig]
    plan: Callable[[AnyConfig], Sequence[AnyCell]]
    measurement: Callable[[AnyConfig], Callable[[AnyCell], Row]] | Programs[AnyCell]
    outcome: Callable[[Row], str]
    text: Callable[[Report], Iterable[str]]
    figures: Callable[[Report], Mapping[str, Figure]]
    conclude: Callable[[AnyConfig, list[Row]], Report] = lambda config, rows: {}

    @property
    def starts_programs(self) -> bool:
        """Whether its cells are programs of their own."""
        return isinstance(self.measurement, Programs)

    def run(self, config: Config | AnyConfig, workdir: str | Path) -> Report:
        """Measure the cells that a workdir lacks, then write and print the report.

        Args:
            config: as a file of ``configs/`` gives it.
            workdir: directory of the study; ``<name>.json``, written last,
                ``<name>.md``, ``plots/*.png``, and ``cells/*.json`` from which an
                interrupted study goes on. One that has a report prints it.

        Returns:
            The report, JSON-able.

        Raises:
            InputError: a config that cannot be run, or a workdir that is not writable
                or full, damaged, or belongs to another config.
        """
        config = self.config.of(config)
        cells = self.plan(config)
        with (
            Workdir(workdir, identity(config)) as claimed,
            named_write_errors(claimed.path, _kept),
        ):
            folder = claimed.path
            file = folder / f"{self.name}.json"
            earlier = self._earlier(file, config)
            # Of runs, there may be more by now; the report of them is soon made.
            if earlier is not None and not self.starts_programs:
                return self._finished(file, earlier, config)
            commit()  # asked now: the code may change while this runs
            rows = complete(
                self._store(config, cells, folder),
                self.outcome,
                config.parallel_cells,
                # Of a config that is known to work: what cannot begin leaves nothing.
                begun=claimed.write_config,
            )
            return self._write(self.report(config, rows), folder)

    def left(self, config: Config | AnyConfig, workdir: Path) -> list[str]:
        """Return what is left to be done: a line for each cell without a row.

        Raises:
            InputError: the workdir belongs to another config, or is damaged.
        """
        config = self.config.of(config)
        self._earlier(workdir / f"{self.name}.json", config)
        store = self._store(config, self.plan(config), workdir)
        return [store.left(cell) for cell in store.places if store.read(cell) is None]

    def report_so_far(self, config: Config | AnyConfig, workdir: Path) -> Report:
        """Write and print the report of the rows that there are, also while it runs.

        Raises:
            InputError: there is no such folder, it cannot be written, or this study
                has no report in parts.
        """
        config = self.config.of(config)
        if not self.starts_programs:
            raise InputError(
                f"{self.name} is a study that has a report when it is finished: leave "
                "out --mode=eval to run it, or to see its report again"
            )
        if not files.is_folder(workdir):
            raise InputError(f"there is no directory {workdir}: give --workdir=DIR")
        workdir = workdir.absolute()
        self._earlier(workdir / f"{self.name}.json", config)
        rows = self._store(config, self.plan(config), workdir).rows()
        with named_write_errors(workdir, _kept):
            return self._write(self.report(config, rows), workdir)

    def _store(
        self, config: AnyConfig, cells: Sequence[AnyCell], folder: Path
    ) -> Store[AnyCell]:
        if isinstance(self.measurement, Programs):
            return self.measurement.store(cells, folder)
        begin = functools.partial(self.measurement, config)
        defined = identity(config) | _pictures(config)
        return Files(cells, folder / "cells", begin, defined)

    def report(self, config: AnyConfig, rows: list[Row]) -> Report:
        """Put the rows together with what they were made from and what they show."""
        return finite(
            {
                "name": config.name,
                "config": as_json(config),
                **provenance(),
                **made_by(rows),
                **_pictures(config),
                "wall_seconds": round(sum(row["wall_seconds"] for row in rows), 2),
                "cells": rows,
                **self.conclude(config, rows),
            }
        )

    def markdown(self, report: Report) -> str:
        """Return the text of the report; it reads well on a terminal, too."""
        made = (
            f"{report['device']}, JAX {report['versions']['jax']}, "
            f"{report['finished']}; {report['wall_seconds']:.0f} s of cells, up to "
            f"{report['config']['parallel_cells']} at once."
        )
        parts = [part for part in self.text(report) if part]
        return "\n\n".join([*parts, made]) + "\n"

    def _earlier(self, file: Path, config: AnyConfig) -> Report | None:
        """Read the report that is there; refuse one of another config.

        Of programs, which may have begun without a report, the config is there alone.
        """
        of, own = self.measurement, file.with_name("config.json")
        if files.exists(file):
            report = read_json(file)
        elif isinstance(of, Programs) and files.exists(own):
            report = {"config": read_json(own)}
            if report["config"].get("experiment") != self.name:
                return None
        else:
            return None
        if not isinstance(report.get("config"), dict):
            raise InputError(f"{file} is damaged: {CURE}")
        differences = config_differences(
            identity(report["config"]) | _pictures(report),
            identity(config) | _pictures(config),
            of.bound if isinstance(of, Programs) else None,
            free=(),
        )
        if differences:
            raise InputError(
                f"{file.parent} belongs to a study with another config "
                f"({listed(differences)}): use that config or another --workdir"
            )
        return report

    def _finished(self, file: Path, report: Report, config: AnyConfig) -> Report:
        """Print a report; what its rows show, which outlive its form, is worked out."""
        try:
            report |= finite(self.conclude(config, report["cells"]))
            say(self.markdown(report))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"{file} is damaged or of another version: {CURE}"
            ) from error
        say(f"finished before, in {file.parent}: --workdir=DIR starts another run")
        return report

    def _write(self, report: Report, folder: Path) -> Report:
        text = self.markdown(report)
        files.write_durably(folder / f"{self.name}.md", text.encode())
        pictures = [
            picture.save(figure, folder / "plots" / f"{name}.png", DPI)
            for name, figure in self.figures(report).items()
        ]
        # Written last: it says that the study is finished.
        file = folder / f"{self.name}.json"
        write_json(file, report)
        say(f"\n{text}")
        written = [folder / f"{self.name}.md", file, *pictures]
        say(f"written: {', '.join(map(str, written))}")
        return report


def _kept() -> str:
    return "finished cells are kept"


def made_by(rows: Sequence[Row]) -> Report:
    """Return on what the rows were measured, which need not be what this program is.

    Returns:
        ``device``, ``versions`` and ``commit``, each once; empty without rows.
    """
    if not rows:
        return {}
    used = [row.get("versions") or {"jax": "not recorded"} for row in rows]
    packages = dict.fromkeys(name for versions in used for name in versions)
    return {
        "device": each(row.get("device") or "not recorded" for row in rows),
        "versions": {p: each(v[p] for v in used if p in v) for p in packages},
        "commit": each(row.get("commit") or "not recorded" for row in rows),
    }


def _pictures(of: Any) -> Report:
    """Return the state of the folder of pictures that a study or a report is of."""
    if isinstance(of, dict):
        return {"pictures": of["pictures"]} if "pictures" in of else {}
    block = getattr(of, "data", None)
    if block is None or not block.folder:
        return {}
    return {"pictures": data.spec_of(block).read_from()}


def identity(config: Any) -> dict[str, Any]:
    """Return the config without what changes no cell."""
    own = as_json(config)
    own.pop("parallel_cells", None)
    if isinstance(own.get("data"), dict):
        own["data"].pop("data_dir", None)
    return own
