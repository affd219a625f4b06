"""``--config=configs/convergence.py``: layers needed against the condition number."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax

from optnet_jax.configuration import Config
from optnet_jax.recurrences.methods import minimisers
from optnet_jax.runs.progress import say
from optnet_jax.studies.convergence import measure as convergence
from optnet_jax.studies.convergence import plot
from optnet_jax.studies.convergence import report as reports
from optnet_jax.studies.convergence.config import ConvergenceConfig
from optnet_jax.studies.convergence.measure import Results
from optnet_jax.studies.convergence.minimiser import make_problem
from optnet_jax.studies.study import run_once


def run(config: Config | ConvergenceConfig, workdir: str | Path) -> dict[str, Any]:
    """Measure every method on every problem; write tables, data and figures.

    Args:
      config: ``config.convergence`` has activations, conditions, dimension, depth,
        epsilon and radius; ``config.seed`` draws W and the start.
      workdir: directory of the study; ``convergence.md``, ``convergence.json`` and one
        ``plots/convergence_<activation>.png`` each.

    Returns:
      What ``convergence.json`` holds.

    Raises:
      InputError: a bad field, or a workdir that is not writable or belongs to another
        config.
    """
    config = ConvergenceConfig.of(config)
    results: Results = {}

    def measure(_: Path) -> dict[str, Any]:
        started = time.monotonic()
        with jax.enable_x64(True):
            duality = _measure_all(config, results)
        seconds = round(time.monotonic() - started, 1)
        return reports.collect(config, results, duality, seconds)

    return run_once(
        "convergence",
        config,
        workdir,
        measure=measure,
        markdown=reports.markdown,
        draw=lambda _, plots: plot.draw(results, plots),
    )


def _measure_all(config: ConvergenceConfig, results: Results) -> float:
    """Fill in the results; returns the largest difference of network and method."""
    study = config.convergence
    duality = 0.0
    for activation in study.activations:
        methods = results.setdefault(activation, {})
        for condition in study.conditions:
            problem = make_problem(activation, condition, study.dimension, config.seed)
            for method in minimisers():
                recurrence = method.recurrence(problem.mu)
                methods.setdefault(method.label, {})[condition] = convergence.measure(
                    recurrence,
                    problem,
                    study.depth,
                    seed=config.seed,
                    radius=study.radius,
                    theoretical_rate=method.rate(problem.mu) if method.rate else None,
                )
                found = convergence.duality_check(problem, recurrence, depth=50)
                duality = max(duality, found)
            say(f"{activation}, κ = {condition:g}: measured")
    return duality
