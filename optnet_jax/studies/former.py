"""What the studies that are packages still run with."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from optnet_jax.configuration import Config
from optnet_jax.runs.files import write_output
from optnet_jax.runs.progress import duration, say
from optnet_jax.studies.cells import (
    AnyCell,
    _read_cell,
    described,
    file_name,
    finite,
    read_json,
)
from optnet_jax.studies.study import Report, identity, refuse_another_config
from optnet_jax.training.workdir import Workdir, write_json


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


def run_once(
    name: str,
    config: Config,
    workdir: str | Path,
    *,
    measure: Callable[[Path], Report],
    markdown: Callable[[Report], str],
    draw: Callable[[Report, Path], Iterable[Path]],
) -> Report:
    """Run a study in a workdir, or print the report that it has left there.

    Args:
      name: of the files: ``<name>.json``, written last, and ``<name>.md``.
      config: of the study.
      workdir: its directory.
      measure: does the work: the folder of the cells' files -> the report, JSON-able.
      markdown: writes the report.
      draw: the report and the folder ``plots`` -> the pictures.

    Returns:
      The report.

    Raises:
      InputError: a workdir that is not writable or belongs to another config.
    """
    own = identity(config)
    with Workdir(workdir, own) as claimed:
        folder = claimed.path
        refuse_another_config(name, folder, own)
        claimed.write_config()
        file = folder / f"{name}.json"
        if file.exists():
            report = read_json(file)
            say(markdown(report))
            say(f"finished before, in {folder}: --workdir=DIR starts another run")
            return report
        report = finite(measure(folder / "cells"))
        text = markdown(report)
        write_output(folder / f"{name}.md", text.encode(), "make room")
        pictures = ", ".join(map(str, draw(report, folder / "plots")))
        # Written last: it says that the study is finished.
        write_json(file, report)
        say(f"\n{text}")
        say(f"written: {folder}/{name}.md, {file}, {pictures}")
        return report
