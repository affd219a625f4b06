"""``--config=configs/stability.py``: roots, norms and the training at depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from optnet_jax.configuration import Config
from optnet_jax.objectives import activation_pair
from optnet_jax.recurrences import Recurrence, methods
from optnet_jax.runs.progress import say
from optnet_jax.structures import FullyConnected, Propagation
from optnet_jax.studies.former import complete, run_once
from optnet_jax.studies.stability import plot
from optnet_jax.studies.stability import report as reports
from optnet_jax.studies.stability.cells import load_batches, plan, train_cell
from optnet_jax.studies.stability.config import StabilityConfig
from optnet_jax.studies.stability.norms import measure
from optnet_jax.studies.stability.roots import (
    characteristic_roots,
    radius_over_slopes,
    slopes_to_try,
)
from optnet_jax.studies.stability.trial import STRUCTURES
from optnet_jax.studies.study import identity


def recurrences() -> dict[str, Recurrence]:
    """Return what is reported on; the functions take any recurrence."""
    return {m.label: m.recurrence() for m in methods.METHODS if not m.tuned}


def run(config: Config | StabilityConfig, workdir: str | Path) -> dict[str, Any]:
    """Measure, train what a workdir lacks, then write and print the report.

    Args:
      config: as ``configs/stability.py`` gives it.
      workdir: directory of the study; ``stability.md``, ``stability.json``,
        ``plots/*.png``, and ``cells/*.json`` from which an interrupted study goes on.

    Returns:
      What ``stability.json`` holds.

    Raises:
      InputError: a config that cannot be run, or a workdir that is not writable or
        belongs to another config.
    """
    config = StabilityConfig.of(config)
    cells = plan(config)

    def measure_all(folder: Path) -> dict[str, Any]:
        roots = [report_roots(*item) for item in recurrences().items()]
        norms = [report_norms(*item, config) for item in recurrences().items()]
        # Most structures do: it is what the report is about, and its table says more.
        growing = sum(len(entry["warnings"]) for entry in norms)
        say(
            f"{growing} of {2 * len(norms)} norms grow by more than "
            f"{config.stability.tolerance:.0%} a layer; stability.md lists them"
        )
        batches = load_batches(config)
        results = complete(
            cells,
            folder,
            lambda cell: train_cell(cell, config, batches),
            _outcome,
            config.parallel_cells,
            lambda cell: {
                "cell": cell,
                "recurrence": STRUCTURES[cell.structure],
                "config": identity(config),
            },
        )
        return reports.collect(config, roots, norms, results)

    return run_once(
        "stability",
        config,
        workdir,
        measure=measure_all,
        markdown=reports.markdown,
        draw=plot.draw,
    )


def report_roots(name: str, recurrence: Recurrence) -> dict[str, Any]:
    """Return what the report holds of a recurrence's roots, JSON-able."""
    roots = characteristic_roots(recurrence)
    slopes = slopes_to_try()
    radii = radius_over_slopes(recurrence, slopes)
    return {
        "name": name,
        "radius": roots.radius,
        "angle": roots.angle,
        "period": roots.period,
        "slopes": slopes.tolist(),
        "radius_by_slope": radii.tolist(),
        "largest_radius": float(radii.max()),
    }


def report_norms(
    name: str, recurrence: Recurrence, config: StabilityConfig
) -> dict[str, Any]:
    """Return what the report holds of a structure's norms, JSON-able."""
    settings = config.stability.norms
    activation, _ = activation_pair(settings.activation)
    module = Propagation(
        recurrence,
        FullyConnected(activation, kernel_init=nn.initializers.he_normal()),
        settings.depth,
        unroll=True,
    )
    keys = jax.random.split(jax.random.key(config.seed), 3)
    x0 = jax.random.normal(keys[0], (settings.batch, settings.width))
    v = jax.random.normal(keys[1], x0.shape)
    found = measure(
        module, module.init(keys[2], x0), x0, lambda output: (v * output).sum()
    )
    return {
        "name": name,
        "signal": found.signal.tolist(),
        "gradient": found.gradient.tolist(),
        "signal_growth": found.signal_growth,
        "gradient_growth": found.gradient_growth,
        "warnings": found.warnings(name, config.stability.tolerance),
    }


def _outcome(result: dict[str, Any]) -> str:
    return (
        f"{result['structure']}, {result['depth']} layers"
        f"{', normalised' if result['normalize'] else ''}: "
        f"{np.sum(result['failed'])} of {np.size(result['failed'])} failed"
    )
