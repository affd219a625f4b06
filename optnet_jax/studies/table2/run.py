"""Table 2: MSE of five structures of 10 to 40 layers, trained on random pairs.

What the table measures. The targets are drawn independently of the inputs, so there is
nothing in them to learn: with M = mean f², the output 0 costs M, the best constant
vector about M - 1/samples. A sigmoid of a random W gives outputs far from 0 and the
gradient takes them there, so every trained network outputs almost the same vector for
every input, and its error is M + mean(output²): the table shows *how far that constant
has decayed when training stops*. It does not show that a structure approximates a
function with fewer layers, which is what §5's hypothesis is about.

From this follows what is printed beside the table.

* M differs from draw to draw by √(2/(samples · dim)) ≈ 0.0014, more than most columns
  differ from each other: the excess over M is the comparable number.
* Optimiser, learning rate and batch are not in the paper, and the numbers depend on
  learning rate x steps. The second part of the report shows the order of the structures
  against it.
* (12) and (13) run one hidden sequence and differ in what they read out. The ablation
  gives that read-out to AGD and to GD.
* ADMM leaves open whether its two paths share W, and which one is the output; AGD2's
  column is matched best at different rates at different depths. Each reading has a row.

:func:`run` trains what is missing in the workdir and reports.
"""

import concurrent.futures
import json
import time
from pathlib import Path
from typing import Any

import jax

from optnet_jax.configuration import Config
from optnet_jax.errors import InputError
from optnet_jax.studies.table2 import plot
from optnet_jax.studies.table2 import report as reports
from optnet_jax.studies.table2.cells import Cell, plan, train_cell
from optnet_jax.studies.tables import with_sd
from optnet_jax.training.progress import duration, say
from optnet_jax.training.workdir import (
    Workdir,
    as_json,
    config_differences,
    write_json,
)


def run(config: Config, workdir: str | Path) -> dict[str, Any]:
    """Train the cells that a workdir lacks, then write and print the report.

    Args:
      config: as ``configs/table2.py`` gives it.
      workdir: directory of the study; ``table2.md``, ``table2.json``,
        ``plots/table2.png``, and ``cells/*.json`` from which an interrupted study
        goes on.

    Returns:
      What ``table2.json`` holds.

    Raises:
      InputError: a config that cannot be run, or a workdir that is not writable or
        belongs to another config.
    """
    cells = plan(config)
    # How many run at once does not change what a cell's file holds.
    identity = config.copy_and_resolve_references()
    with identity.unlocked():
        del identity.parallel_cells
    with Workdir(workdir, identity) as claimed:
        folder = claimed.path
        _check_config(folder, identity)
        claimed.write_config()
        file = folder / "table2.json"
        if file.exists():
            report = _read(file)
            say(reports.markdown(report))
            say(f"finished before, in {folder}: --workdir=DIR starts another run")
            return report
        train_missing(cells, folder / "cells", config)
        results = [_read(_cell_file(folder / "cells", cell)) for cell in cells]
        report = reports.collect(config, results)
        text = reports.markdown(report)
        (folder / "table2.md").write_text(text, "utf-8")
        picture = plot.draw(report, folder / "plots" / "table2.png")
        # Written last: it says that the study is finished.
        write_json(file, report)
        say(f"\n{text}")
        say(f"written: {folder}/table2.md, {file}, {picture}")
        return report


def train_missing(cells: list[Cell], folder: Path, config: Config) -> None:
    """Train the cells that have no file yet, a few at a time.

    Args:
      cells: all cells of the study.
      folder: where each leaves its JSON file.
      config: the study's config.

    Raises:
      InputError: a cell diverged.
      SystemExit: after Ctrl-C, with status 130; finished cells are kept.
    """
    folder.mkdir(exist_ok=True)
    missing = [cell for cell in cells if not _cell_file(folder, cell).exists()]
    if len(missing) < len(cells):
        say(f"going on: {len(cells) - len(missing)} of {len(cells)} cells are there")
    # XLA leaves most of a second core idle in matrices this small; two programs at
    # once use it. An accelerator is filled by one.
    workers = config.parallel_cells if jax.default_backend() == "cpu" else 1
    start, count = time.perf_counter(), len(cells) - len(missing)
    done, total = 0, sum(cell.work for cell in missing)
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        futures = {pool.submit(_train, cell, folder, config): cell for cell in missing}
        for future in concurrent.futures.as_completed(futures):
            result, cell = future.result(), futures[future]
            done += cell.work
            left = (time.perf_counter() - start) / done * (total - done)
            count += 1
            say(
                f"[{count:{len(str(len(cells)))}}/{len(cells)}] "
                f"{_outcome(result, config)}; {result['wall_seconds']:.0f} s, "
                f"about {duration(left)} left"
            )
    except KeyboardInterrupt:
        say("stopping when the cells in training are done; the same command goes on")
        raise SystemExit(130) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _check_config(folder: Path, config: Config) -> None:
    """Refuse cells of another config, which would be taken for this one's."""
    file = folder / "config.json"
    if not file.exists() or not any(folder.glob("cells/*.json")):
        return
    differences = config_differences(_read(file), as_json(config))
    if differences:
        raise InputError(
            f"{folder} belongs to a study with another config "
            f"({'; '.join(differences)}): use that config or another --workdir"
        )


def _train(cell: Cell, folder: Path, config: Config) -> dict[str, Any]:
    result = train_cell(cell, config)
    # In the worker, so that a cell that ends after Ctrl-C is not lost.
    write_json(_cell_file(folder, cell), result)
    return result


def _outcome(result: dict[str, Any], config: Config) -> str:
    at = result["checkpoints"].index(config.steps)
    mse = [values[at] for values in result["mse"]]
    return f"{result['label']}, {result['depth']} layers: MSE {with_sd(mse)}"


def _cell_file(folder: Path, cell: Cell) -> Path:
    return folder / f"{cell.name}.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file} is damaged: delete it, and the same command makes it again"
        ) from error
