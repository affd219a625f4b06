"""``--config=configs/hypothesis.py``: does a faster method need fewer layers?

The simulation of §5.3 cannot answer this: its targets are independent of the inputs
(see :mod:`optnet_jax.studies.table2.run`). Here a network has to map an input to its
own argmin F; a method's advantage with the true W is known; and what is asked is
whether it survives training from scratch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from optnet_jax.configuration import Config
from optnet_jax.studies.cells import complete, read_json, refuse_another_config
from optnet_jax.studies.hypothesis import plot
from optnet_jax.studies.hypothesis import report as reports
from optnet_jax.studies.hypothesis.cells import (
    PARTS,
    draw_all,
    make_task,
    plan,
    run_untrained,
    train_cell,
)
from optnet_jax.studies.hypothesis.task import residual
from optnet_jax.training.progress import say
from optnet_jax.training.workdir import Workdir, write_json


def run(config: Config, workdir: str | Path) -> dict[str, Any]:
    """Train the cells that a workdir lacks, then write and print the report.

    Args:
      config: as ``configs/hypothesis.py`` gives it.
      workdir: directory of the study; ``hypothesis.md``, ``hypothesis.json``,
        ``plots/hypothesis.png``, and ``cells/*.json`` from which an interrupted study
        goes on.

    Returns:
      What ``hypothesis.json`` holds.

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
        refuse_another_config(folder, identity)
        claimed.write_config()
        file = folder / "hypothesis.json"
        if file.exists():
            report = read_json(file)
            say(reports.markdown(report))
            say(f"finished before, in {folder}: --workdir=DIR starts another run")
            return report
        problems = {part: draw_all(config, part) for part in PARTS}
        untrained = [
            run_untrained(label, config, problems["linear_term"])
            for label in config.hypothesis.methods
        ]
        results = complete(
            cells,
            folder / "cells",
            lambda cell: train_cell(cell, config, problems[cell.part]),
            _outcome,
            config.parallel_cells,
        )
        report = reports.collect(
            config, results, untrained, _largest_residual(config, problems)
        )
        text = reports.markdown(report)
        (folder / "hypothesis.md").write_text(text, "utf-8")
        picture = plot.draw(report, folder / "plots" / "hypothesis.png")
        # Written last: it says that the study is finished.
        write_json(file, report)
        say(f"\n{text}")
        say(f"written: {folder}/hypothesis.md, {file}, {picture}")
        return report


def _largest_residual(config: Config, problems: dict) -> float:
    with jax.enable_x64(True):
        return max(
            residual(make_task(part, config), problem.w, inputs, targets)
            for part, by_seed in problems.items()
            for problem in by_seed.values()
            for inputs, targets in zip(problem.inputs, problem.targets, strict=True)
        )


def _outcome(result: dict[str, Any]) -> str:
    mean = reports.mean_and_band(result["error"])[0]
    return (
        f"{result['label']}, {result['depth']} layers, {result['tying']}"
        f"{', constant target' if result['part'] == 'constant' else ''}: error "
        f"{mean:.1e} at rate {result['learning_rate']:g}"
    )
