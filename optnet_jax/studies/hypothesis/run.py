"""``--config=configs/hypothesis.py``: does a faster method need fewer layers?

The simulation of §5.3 cannot answer this: its targets are independent of the inputs
(see :mod:`optnet_jax.studies.table2`). Here a network has to map an input to its
own argmin F; a method's advantage with the true W is known; and what is asked is
whether it survives training from scratch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from optnet_jax.configuration import Config
from optnet_jax.studies.former import complete, run_once
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
from optnet_jax.studies.hypothesis.config import HypothesisConfig
from optnet_jax.studies.hypothesis.task import residual
from optnet_jax.studies.study import identity


def run(config: Config | HypothesisConfig, workdir: str | Path) -> dict[str, Any]:
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
    config = HypothesisConfig.of(config)
    cells = plan(config)

    def measure(folder: Path) -> dict[str, Any]:
        problems = {part: draw_all(config, part) for part in PARTS}
        untrained = [
            run_untrained(label, config, problems["linear_term"])
            for label in config.hypothesis.methods
        ]
        results = complete(
            cells,
            folder,
            lambda cell: train_cell(cell, config, problems[cell.part]),
            _outcome,
            config.parallel_cells,
            lambda cell: {
                "cell": cell,
                "recurrence": cell.method.recurrence(1 / config.hypothesis.condition),
                "config": identity(config),
            },
        )
        return reports.collect(
            config, results, untrained, _largest_residual(config, problems)
        )

    return run_once(
        "hypothesis",
        config,
        workdir,
        measure=measure,
        markdown=reports.markdown,
        draw=lambda report, plots: [plot.draw(report, plots / "hypothesis.png")],
    )


def _largest_residual(config: HypothesisConfig, problems: dict) -> float:
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
