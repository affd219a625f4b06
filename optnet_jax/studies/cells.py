"""The cells of a study: each is worked out once, kept, and never again.

A file is named by a digest of what defines its cell, and holds that definition: a
method that is renamed, moved to another row or given other coefficients is another
cell, and never reads the file that it had before.
"""

import abc
import concurrent.futures
import dataclasses
import datetime
import hashlib
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import jax
from absl import logging

from optnet_jax.errors import InputError
from optnet_jax.runs import files, program
from optnet_jax.runs.progress import duration, say
from optnet_jax.training.differences import listed
from optnet_jax.training.origin import settings, settings_changed
from optnet_jax.training.result import commit, describe_devices, versions
from optnet_jax.training.workdir import write_json

Row = dict[str, Any]
"""What is known of a cell, in JSON types: its fields, and what was measured."""


class Cell(Protocol):
    """What a study works out at a time: a frozen dataclass.

    All that its result depends on besides the study's config is a field of it, its
    recurrence included, for the digest of the fields tells it from other cells.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str:
        """What a person calls it."""
        ...

    @property
    def work(self) -> float:
        """What it costs, up to a factor."""
        ...


AnyCell = TypeVar("AnyCell", bound=Cell)


class Unfinished(Exception):  # noqa: N818 (nobody's mistake: it may end well next time)
    """A cell's program has ended without a row, and not by a mistake of the user's."""


class Store(abc.ABC, Generic[AnyCell]):
    """Where the rows of a study are, and how another one is made.

    Args:
        places: where each cell of the study has its row.
        found: all that is there.
    """

    def __init__(self, places: Mapping[AnyCell, Path], found: Iterable[Path]):
        self.places = places
        foreign = sorted(set(found) - set(places.values()))
        if foreign:
            text = f"{len(foreign)} of {foreign[0].parent}, such as {foreign[0].name}"
            program.tell(f"not used, of no cell of this study: {text}", sys.stderr)

    @abc.abstractmethod
    def read(self, cell: AnyCell) -> Row | None:
        """Return a cell's row; ``None`` if it has not been measured.

        Raises:
            InputError: what is there is damaged, or of another cell.
        """

    @abc.abstractmethod
    def begin(self) -> Callable[[AnyCell], Row]:
        """Make what all cells share; return what measures one and keeps its row."""

    def left(self, cell: AnyCell) -> str:
        """Say what is to be done for a cell that has no row."""
        return cell.name

    def stop(self) -> None:
        """Ask what is being measured in other programs to save its state and end."""

    def rows(self) -> list[Row]:
        """Return the rows that there are, in the order of the cells."""
        return [row for cell in self.places if (row := self.read(cell)) is not None]


class Files(Store[AnyCell]):
    """Rows in JSON files, each named by its cell and a digest of what defines it.

    Args:
        cells: all cells of the study.
        folder: where each leaves its file; made where it is missing.
        begin: makes what all cells share and returns the function that measures one: a
            cell -> numbers, texts, and lists and dicts of them. Its ``fingerprint``, if
            it has one, says on what data; cells of other data are refused then.
        config: what all cells depend on, in JSON types.
    """

    def __init__(
        self,
        cells: Iterable[AnyCell],
        folder: Path,
        begin: Callable[[], Callable[[AnyCell], Row]],
        config: Mapping[str, Any],
    ):
        self._folder, self._begin = folder, begin
        self._fingerprint = ""  # which is known once the data are loaded
        self._definitions = {
            cell: {"cell": described(cell), "config": config} for cell in cells
        }
        places = {
            cell: folder / file_name(cell.name, definition)
            for cell, definition in self._definitions.items()
        }
        super().__init__(places, folder.glob("*.json"))

    def read(self, cell: AnyCell) -> Row | None:
        """Return what the file of a cell holds besides its definition."""
        file = self.places[cell]
        if not files.exists(file):
            return None
        row = read_json(file)
        if row.pop("definition", None) != self._definitions[cell]:
            raise InputError(f"{file} holds another cell than its name says: {CURE}")
        changed = settings_changed(row.pop("settings", {}), settings())
        if changed:
            raise InputError(
                f"{file} was measured with other settings of JAX ({listed(changed)}): "
                "use those, or another --workdir"
            )
        data = row.pop("fingerprint", "")
        if data and self._fingerprint and data != self._fingerprint:
            raise InputError(
                f"{file} was measured on other images (their digest was {data[:12]}, "
                f"now {self._fingerprint[:12]}): use those, or another --workdir"
            )
        return row

    def begin(self) -> Callable[[AnyCell], Row]:
        """Return what measures a cell and writes its file."""
        measure = self._begin()
        self._fingerprint = getattr(measure, "fingerprint", "")
        self.rows()  # refuses those of other data, before anything slow
        self._folder.mkdir(exist_ok=True)

        def measure_and_keep(cell: AnyCell) -> Row:
            start = time.perf_counter()
            found = measure(cell)
            seconds = round(time.perf_counter() - start, 2)
            fields = {f.name: getattr(cell, f.name) for f in dataclasses.fields(cell)}
            plain = (bool, int, float, str, tuple)
            row = finite(
                {
                    **{n: v for n, v in fields.items() if type(v) in plain},
                    **found,
                    "wall_seconds": seconds,
                    **provenance(),
                }
            )
            # In the worker, so that a cell that ends after Ctrl-C is not lost.
            definition = self._definitions[cell]
            made_from: Row = {"settings": settings(), "definition": definition}
            if self._fingerprint:
                made_from["fingerprint"] = self._fingerprint
            write_json(self.places[cell], {**row, **made_from})
            return row

        return measure_and_keep


def complete(
    store: Store[AnyCell],
    outcome: Callable[[Row], str],
    workers: int,
    begun: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Measure the cells that have no row yet, a few at a time, and read them all.

    A cell that fails with an InputError or is Unfinished does not end the others; one
    whose row cannot be written does, for theirs could not be either.

    Args:
        store: of the study.
        outcome: a row -> what is printed of it, behind the name of its cell.
        workers: how many at once on a CPU, where small matrices leave most of a second
            core idle; an accelerator is filled by one.
        begun: called when what all cells share is made, and before the first of them.

    Returns:
        The rows in the order of the cells. Those of files hold the plain fields of the
        cell, what was measured, ``wall_seconds`` and ``finished``, in UTC.

    Raises:
        InputError: for a file that is damaged or of another cell; if cells failed, all
            of them by mistakes.
        OSError: for a row that cannot be written.
        SystemExit: with status 1, on which launchers try again, if cells are
            Unfinished; after a request to stop as a program ends by that, with status
            130 for Ctrl-C. Finished cells are kept.
    """
    rows = {cell: store.read(cell) for cell in store.places}
    missing = [cell for cell, row in rows.items() if row is None]
    number = len(store.places)
    _say_other_versions(row for row in rows.values() if row is not None)
    if len(missing) < number:
        say(f"resuming: {number - len(missing)} of {number} cells are done")
    measure = store.begin() if missing else None
    begun()
    if measure is not None:
        failed = _run(missing, store, measure, outcome, workers)
        if failed:
            names = [cell.name for cell in failed][:3] + ["more"] * (len(failed) > 3)
            text = (
                f"{len(failed)} of {number} cells failed, {', '.join(names)}: mend "
                "what is said of each above; what needs no other config is tried again "
                "by the same command"
            )
            if all(failed.values()):
                raise InputError(text)
            raise SystemExit(f"error: {text}")
    return store.rows()


def _say_other_versions(rows: Iterable[Row]) -> None:
    """Say with which other versions of JAX rows were measured."""
    used = {(row.get("versions") or {}).get("jax", jax.__version__) for row in rows}
    if others := sorted(used - {jax.__version__}):
        text = "cells were measured with jax %s, this is %s: the same up to rounding"
        logging.warning(text, ", ".join(others), jax.__version__)


def _run(
    missing: Sequence[AnyCell],
    store: Store[AnyCell],
    measure: Callable[[AnyCell], Row],
    outcome: Callable[[Row], str],
    workers: int,
) -> dict[AnyCell, bool]:
    """Measure a few cells at a time, with a line for each.

    Returns:
        Those that failed, and whether by a mistake.
    """
    number, failed = len(store.places), {}
    count = number - len(missing)
    # By the cells that were measured: when one fails says nothing of the others.
    seconds, done, left = 0.0, 0.0, sum(cell.work for cell in missing)
    at_once = workers if jax.default_backend() == "cpu" else 1
    pool = concurrent.futures.ThreadPoolExecutor(at_once)
    try:
        futures = {pool.submit(measure, cell): cell for cell in missing}
        for future in concurrent.futures.as_completed(futures):
            cell = futures[future]
            left -= cell.work
            count += 1
            try:
                row = future.result()
                told = f"{outcome(row)}; {row['wall_seconds']:.0f} s"
                seconds += row["wall_seconds"]
                done += cell.work
            except (InputError, Unfinished) as error:
                told = f"failed: {error}"
                failed[cell] = isinstance(error, InputError)
            if done:
                told += f", about {duration(seconds / done * left / at_once)} left"
            say(f"[{count:{len(str(number))}}/{number}] {cell.name}: {told}")
    except (KeyboardInterrupt, program.Interrupted) as stopped:
        pool.shutdown(wait=False, cancel_futures=True)
        say("stopping when the cells under way have ended; the same command resumes")
        store.stop()
        if isinstance(stopped, KeyboardInterrupt):
            raise SystemExit(130) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


def described(value: Any) -> Any:
    """Return what a value is, in JSON types, the same in every process.

    Numbers, strings, None, arrays, sequences, mappings and dataclasses of such;
    functions count by their name.

    >>> from optnet_jax.recurrences import LinearMultistep
    >>> described(LinearMultistep(0.3))
    {'kind': 'LinearMultistep', 'k': 0.3}

    Raises:
        InputError: anything else, which could not be told apart.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): described(inner) for name, inner in value.items()}
    if isinstance(value, Sequence):
        return [described(inner) for inner in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if dataclasses.is_dataclass(value):
        inner = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **described(inner)}
    raise InputError(
        f"{type(value).__name__} does not say what it holds, by which cells of a study "
        "are told apart: make it a frozen dataclass"
    )


def file_name(name: str, definition: Any) -> str:
    """Return the name of a cell's file.

    >>> file_name("HB (11), 10 layers", {"depth": 10})
    'HB_11_10_layers-501bae62.json'
    """
    text = json.dumps(definition, sort_keys=True)
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]
    return f"{re.sub(r'[^a-zA-Z0-9.=-]+', '_', name).strip('_')}-{digest}.json"


CURE = "delete it, and the same command makes it again"


def read_json(file: Path, cure: str = CURE) -> dict[str, Any]:
    """Read a file of a study or of a run.

    Raises:
        InputError: it is damaged, or no regular file.
    """
    try:
        return files.read_object(file)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{file} is damaged: {cure}") from error


def provenance() -> Row:
    """Return by what, on what and when, in UTC, something was made, in JSON types."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "finished": now.isoformat(timespec="seconds"),
        "versions": versions(),
        "commit": commit(),
        "device": describe_devices(),
    }


def finite(value: Any) -> Any:
    """Put None for what JSON has no number for, NaN and ±∞, and lists for tuples.

    >>> finite({"period": float("inf"), "norms": (1.0, float("nan"))})
    {'period': None, 'norms': [1.0, None]}
    """
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
