"""The cells of a study: each is worked out once, kept in a file, and never again.

A file is named by a digest of what defines its cell, and holds that definition: a
method that is renamed, moved to another row or given other coefficients is another
cell, and never reads the file that it had before.
"""

import concurrent.futures
import dataclasses
import datetime
import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import jax

from optnet_jax.errors import InputError
from optnet_jax.runs.files import read_object
from optnet_jax.runs.progress import duration, say
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


def complete(
    cells: Sequence[AnyCell],
    folder: Path,
    begin: Callable[[], Callable[[AnyCell], Row]],
    outcome: Callable[[Row], str],
    workers: int,
    config: Mapping[str, Any],
) -> list[Row]:
    """Measure the cells that have no file yet, a few at a time, and read them all.

    Args:
        cells: all cells of the study.
        folder: where each leaves its JSON file; made where it is missing.
        begin: makes what all cells share, where any is missing, and returns the
            function that measures one: a cell -> numbers, texts, and lists and dicts of
            them.
        outcome: a row -> what is printed of it, behind the name of its cell.
        workers: how many at once on a CPU, where small matrices leave most of a second
            core idle; an accelerator is filled by one.
        config: what all cells depend on, in JSON types.

    Returns:
        The rows in the order of the cells: the plain fields of the cell, what was
        measured, ``wall_seconds`` and ``finished``, in UTC.

    Raises:
        InputError: from a cell, or a file that is damaged or of another cell.
        SystemExit: after Ctrl-C, with status 130; finished cells are kept.
    """
    folder.mkdir(exist_ok=True)
    definitions = {cell: {"cell": described(cell), "config": config} for cell in cells}
    files = {cell: folder / file_name(cell.name, definitions[cell]) for cell in cells}
    foreign = set(folder.glob("*.json")) - set(files.values())
    if foreign:
        say(f"not used: {len(foreign)} file(s) in {folder} of cells defined otherwise")
    missing = [cell for cell in cells if not files[cell].exists()]
    if len(missing) < len(cells):
        say(f"resuming: {len(cells) - len(missing)} of {len(cells)} cells are done")
    if missing:
        measure = begin()

        def measure_and_keep(cell: AnyCell) -> Row:
            row = _measured(cell, measure)
            # In the worker, so that a cell that ends after Ctrl-C is not lost.
            write_json(files[cell], {**row, "definition": definitions[cell]})
            return row

        _run(missing, len(cells), measure_and_keep, outcome, workers)
    return [_read_cell(files[cell], definitions[cell]) for cell in cells]


def _run(
    missing: Sequence[AnyCell],
    number: int,
    measure: Callable[[AnyCell], Row],
    outcome: Callable[[Row], str],
    workers: int,
) -> None:
    """Measure a few cells at a time, and print a line for each with the time left."""
    start, count = time.perf_counter(), number - len(missing)
    done, total = 0.0, sum(cell.work for cell in missing)
    pool = concurrent.futures.ThreadPoolExecutor(
        workers if jax.default_backend() == "cpu" else 1
    )
    try:
        futures = {pool.submit(measure, cell): cell for cell in missing}
        for future in concurrent.futures.as_completed(futures):
            row = future.result()
            done += futures[future].work
            left = (time.perf_counter() - start) / done * (total - done)
            count += 1
            say(
                f"[{count:{len(str(number))}}/{number}] {futures[future].name}: "
                f"{outcome(row)}; {row['wall_seconds']:.0f} s, about {duration(left)} "
                "left"
            )
    except KeyboardInterrupt:
        say("stopping when the cells in training are done; the same command resumes")
        raise SystemExit(130) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _measured(cell: AnyCell, measure: Callable[[AnyCell], Row]) -> Row:
    start = time.perf_counter()
    found = measure(cell)
    fields = {f.name: getattr(cell, f.name) for f in dataclasses.fields(cell)}
    plain = (bool, int, float, str, tuple)
    return finite(
        {
            **{name: value for name, value in fields.items() if type(value) in plain},
            **found,
            "wall_seconds": round(time.perf_counter() - start, 2),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(
                timespec="seconds"
            ),
        }
    )


def described(value: Any) -> Any:
    """Return what a value is, in JSON types, the same in every process.

    Numbers, strings, None, arrays, sequences, mappings and dataclasses of such;
    functions count by their name.

    >>> from optnet_jax.recurrences import LinearMultistep
    >>> described(LinearMultistep(0.3))
    {'kind': 'LinearMultistep', 'k': 0.3}

    Raises:
        TypeError: anything else, which could not be told apart.
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
    raise TypeError(f"{value!r} cannot be told from others of {type(value).__name__}")


def file_name(name: str, definition: Any) -> str:
    """Return the name of a cell's file.

    >>> file_name("HB (11), 10 layers", {"depth": 10})
    'HB_11_10_layers-501bae62.json'
    """
    text = json.dumps(definition, sort_keys=True)
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]
    return f"{re.sub(r'[^a-zA-Z0-9.=-]+', '_', name).strip('_')}-{digest}.json"


def _read_cell(file: Path, definition: Any) -> dict[str, Any]:
    result = read_json(file)
    if result.pop("definition", None) != definition:
        raise InputError(
            f"{file} holds another cell than its name says: delete it, and the same "
            "command makes it again"
        )
    return result


def read_json(
    file: Path, cure: str = "delete it, and the same command makes it again"
) -> dict[str, Any]:
    """Read a file of a study or of a run.

    Raises:
        InputError: it is damaged, or no regular file.
    """
    try:
        return read_object(file)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{file} is damaged: {cure}") from error


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
