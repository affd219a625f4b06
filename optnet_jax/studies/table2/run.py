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

from pathlib import Path
from typing import Any

from optnet_jax.configuration import Config
from optnet_jax.studies.former import complete, run_once
from optnet_jax.studies.study import identity
from optnet_jax.studies.table2 import plot
from optnet_jax.studies.table2 import report as reports
from optnet_jax.studies.table2.cells import plan, train_cell
from optnet_jax.studies.table2.config import Table2Config
from optnet_jax.studies.tables import with_sd


def run(config: Config | Table2Config, workdir: str | Path) -> dict[str, Any]:
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
    config = Table2Config.of(config)
    cells = plan(config)

    def measure(folder: Path) -> dict[str, Any]:
        results = complete(
            cells,
            folder,
            lambda cell: train_cell(cell, config),
            lambda result: _outcome(result, config),
            config.parallel_cells,
            lambda cell: {
                "cell": cell,
                "recurrence": cell.contender.make(config.heavy_ball_beta),
                "contender": cell.contender,
                "config": identity(config),
            },
        )
        return reports.collect(config, results)

    return run_once(
        "table2",
        config,
        workdir,
        measure=measure,
        markdown=reports.markdown,
        draw=lambda report, plots: [plot.draw(report, plots / "table2.png")],
    )


def _outcome(result: dict[str, Any], config: Table2Config) -> str:
    at = result["checkpoints"].index(config.steps)
    mse = [values[at] for values in result["mse"]]
    return f"{result['label']}, {result['depth']} layers: MSE {with_sd(mse)}"
