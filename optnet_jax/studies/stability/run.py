"""``--config=configs/stability.py``: roots, norms and the training at depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from optnet_jax.configuration import Config
from optnet_jax.objectives import activation_pair
from optnet_jax.recurrences import (
    ADMM,
    GradientDescent,
    HeavyBall,
    Nesterov,
    NesterovSum,
    Recurrence,
    TwoPath,
    heavy_ball,
)
from optnet_jax.structures import FullyConnected, Propagation
from optnet_jax.studies.cells import complete, read_json, refuse_another_config
from optnet_jax.studies.stability import plot
from optnet_jax.studies.stability import report as reports
from optnet_jax.studies.stability.cells import load_batches, plan, train_cell
from optnet_jax.studies.stability.norms import measure
from optnet_jax.studies.stability.roots import (
    characteristic_roots,
    radius_over_slopes,
    slopes_to_try,
)
from optnet_jax.training.progress import say
from optnet_jax.training.workdir import Workdir, write_json

RECURRENCES: dict[str, Recurrence] = {
    "GD (7)": GradientDescent(),
    "HB (11), β = 0.3": heavy_ball(0.3),
    "ResNet (16): 1, 0": HeavyBall(1, 0),
    "HB-Net (16): 1, -1": HeavyBall(1, -1),
    "AGD (12), θ_k": Nesterov(),
    "AGD2 (13), θ_k": NesterovSum(),
    "ADMM (14)": ADMM(),
    "DMRNet (20)": TwoPath(),
    "(20) as printed": TwoPath(memory=1.0),
}
"""What is reported on; the functions take any recurrence."""


def run(config: Config, workdir: str | Path) -> dict[str, Any]:
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
    cells = plan(config)
    # Neither changes what a cell's file holds.
    identity = config.copy_and_resolve_references()
    with identity.unlocked():
        del identity.parallel_cells
        del identity.data.data_dir
    with Workdir(workdir, identity) as claimed:
        folder = claimed.path
        refuse_another_config(folder, identity)
        claimed.write_config()
        file = folder / "stability.json"
        if file.exists():
            report = read_json(file)
            say(reports.markdown(report))
            say(f"finished before, in {folder}: --workdir=DIR starts another run")
            return report
        roots = [report_roots(*item) for item in RECURRENCES.items()]
        norms = [report_norms(*item, config) for item in RECURRENCES.items()]
        for line in (line for entry in norms for line in entry["warnings"]):
            say(f"warning: {line}")
        batches = load_batches(config)
        results = complete(
            cells,
            folder / "cells",
            lambda cell: train_cell(cell, config, batches),
            _outcome,
            config.parallel_cells,
        )
        report = reports.collect(config, roots, norms, results)
        text = reports.markdown(report)
        (folder / "stability.md").write_text(text, "utf-8")
        pictures = plot.draw(report, folder / "plots")
        # Written last: it says that the study is finished.
        write_json(file, report)
        say(f"\n{text}")
        say(f"written: {folder}/stability.md, {file}, {', '.join(map(str, pictures))}")
        return report


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


def report_norms(name: str, recurrence: Recurrence, config: Config) -> dict[str, Any]:
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
