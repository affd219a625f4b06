"""The cells of a study: each is worked out once, kept in a file, and never again.

A file is named by a digest of what defines its cell, and holds that definition: a
method that is renamed, moved to another row or given other coefficients is another
cell, and never reads the file that it had before.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax

from optnet_jax.errors import InputError
from optnet_jax.runs.files import read_object
from optnet_jax.runs.progress import duration, say
from optnet_jax.training.workdir import write_json


class Cell(Protocol):
    """What a study works out at a time.

    Attributes:
      name: what a person calls it; the digest of its definition tells it from others.
      work: what it costs, up to a factor.
    """

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
    work_out: Callable[[AnyCell], dict[str, Any]],
    describe: Callable[[dict[str, Any]], str],
    workers: int,
    definition: Callable[[AnyCell], Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Work out the cells that have no file yet, a few at a time, and read them all.

    Args:
      cells: all cells of the study.
      folder: where each leaves its JSON file; made where it is missing.
      work_out: a cell -> what its file holds, with ``wall_seconds``.
      describe: that -> what is printed of it.
      workers: how many at once on a CPU, where small matrices leave most of a second
        core idle; an accelerator is filled by one.
      definition: a cell -> all that its result depends on, such as its fields, its
        recurrence and the study's config; see :func:`described` for what it may hold.

    Returns:
      What the files hold, in the order of the cells.

    Raises:
      InputError: from a cell, or a file that is damaged or of another cell.
      SystemExit: after Ctrl-C, with status 130; finished cells are kept.
    """
    folder.mkdir(exist_ok=True)
    definitions = {cell: described(definition(cell)) for cell in cells}
    files = {cell: folder / file_name(cell.name, definitions[cell]) for cell in cells}
    foreign = set(folder.glob("*.json")) - set(files.values())
    if foreign:
        say(f"not used: {len(foreign)} file(s) in {folder} of cells defined otherwise")
    missing = [cell for cell in cells if not files[cell].exists()]
    if len(missing) < len(cells):
        say(f"going on: {len(cells) - len(missing)} of {len(cells)} cells are there")
    start, count = time.perf_counter(), len(cells) - len(missing)
    done, total = 0.0, sum(cell.work for cell in missing)

    def work_out_and_keep(cell: AnyCell) -> dict[str, Any]:
        result = finite(work_out(cell))
        # In the worker, so that a cell that ends after Ctrl-C is not lost.
        write_json(files[cell], {**result, "definition": definitions[cell]})
        return result

    pool = concurrent.futures.ThreadPoolExecutor(
        workers if jax.default_backend() == "cpu" else 1
    )
    try:
        futures = {pool.submit(work_out_and_keep, cell): cell for cell in missing}
        for future in concurrent.futures.as_completed(futures):
            result = future.result()
            done += futures[future].work
            left = (time.perf_counter() - start) / done * (total - done)
            count += 1
            say(
                f"[{count:{len(str(len(cells)))}}/{len(cells)}] {describe(result)}; "
                f"{result['wall_seconds']:.0f} s, about {duration(left)} left"
            )
    except KeyboardInterrupt:
        say("stopping when the cells in training are done; the same command goes on")
        raise SystemExit(130) from None
    finally:
        pool.shutdown(cancel_futures=True)
    return [_read_cell(files[cell], definitions[cell]) for cell in cells]


def described(value: Any) -> Any:
    """Return what a value is, in JSON types, the same in every process.

    >>> from optnet_jax.recurrences import heavy_ball
    >>> described(heavy_ball(0.3))
    {'kind': 'HeavyBall', 'beta1': 0.3, 'beta2': -0.3, 'post_activation': None}

    Args:
      value: numbers, strings, None, arrays, sequences, mappings and dataclasses of
        such; functions count by their name.

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

    Args:
      name: what a person calls the cell.
      definition: all that its result depends on, in JSON types.
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

    Args:
      file: the file.
      cure: what a person can do if it is damaged.

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
    """Put None for what JSON has no number for: NaN and ±∞.

    >>> finite({"period": float("inf"), "norms": (1.0, float("nan"))})
    {'period': None, 'norms': [1.0, None]}

    Args:
      value: of dicts, lists, tuples and plain values; tuples become lists.
    """
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
