"""The cells of a study: each is worked out once, kept in a file, and never again."""

from __future__ import annotations

import concurrent.futures
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax

from optnet_jax.errors import InputError
from optnet_jax.training.progress import duration, say
from optnet_jax.training.workdir import write_json


class Cell(Protocol):
    """What a study works out at a time.

    Attributes:
      name: of its file.
      work: what it costs, up to a factor.
    """

    @property
    def name(self) -> str:
        """Name of its file."""
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
) -> list[dict[str, Any]]:
    """Work out the cells that have no file yet, a few at a time, and read them all.

    Args:
      cells: all cells of the study.
      folder: where each leaves its JSON file; made where it is missing.
      work_out: a cell -> what its file holds, with ``wall_seconds``.
      describe: that -> what is printed of it.
      workers: how many at once on a CPU, where small matrices leave most of a second
        core idle; an accelerator is filled by one.

    Returns:
      What the files hold, in the order of the cells.

    Raises:
      InputError: from a cell, or a damaged file.
      SystemExit: after Ctrl-C, with status 130; finished cells are kept.
    """
    folder.mkdir(exist_ok=True)
    missing = [cell for cell in cells if not _file(folder, cell).exists()]
    if len(missing) < len(cells):
        say(f"going on: {len(cells) - len(missing)} of {len(cells)} cells are there")
    start, count = time.perf_counter(), len(cells) - len(missing)
    done, total = 0.0, sum(cell.work for cell in missing)

    def work_out_and_keep(cell: AnyCell) -> dict[str, Any]:
        result = work_out(cell)
        # In the worker, so that a cell that ends after Ctrl-C is not lost.
        write_json(_file(folder, cell), result)
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
    return [read_json(_file(folder, cell)) for cell in cells]


def read_json(file: Path) -> dict[str, Any]:
    """Read a file of a study.

    Raises:
      InputError: it is damaged.
    """
    try:
        return json.loads(file.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file} is damaged: delete it, and the same command makes it again"
        ) from error


def _file(folder: Path, cell: Cell) -> Path:
    return folder / f"{cell.name}.json"
