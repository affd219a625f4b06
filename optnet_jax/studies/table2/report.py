"""Table 2's report: the paper's numbers beside ours, and what explains them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from optnet_jax.studies.study import provenance
from optnet_jax.studies.table2.config import Table2Config
from optnet_jax.studies.table2.contenders import PAPER
from optnet_jax.studies.table2.tables import (
    Report,
    comparison_table,
    cost_table,
    excess_at,
    find,
    readout_table,
    timed,
    timing_table,
)
from optnet_jax.studies.tables import mean_and_sd


def collect(config: Table2Config, cells: Sequence[dict[str, Any]]) -> Report:
    """Put the cells together with what they were made from.

    Args:
      config: the study's config.
      cells: what ``train_cell`` returned for each.

    Returns:
      JSON-able: the config, versions, device, the paper's table, and the cells, each
      with ``final``: the mean and standard deviation over the seeds after
      ``config.steps``.
    """
    return {
        **provenance(config),
        "matmul_precision": config.matmul_precision,
        "backend": jax.default_backend(),
        "wall_seconds": round(sum(cell["wall_seconds"] for cell in cells), 2),
        "paper": {name: {str(k): v for k, v in c.items()} for name, c in PAPER.items()},
        "cells": [{**cell, "final": _final(cell, config.steps)} for cell in cells],
    }


def _final(cell: dict[str, Any], steps: int) -> dict[str, Any]:
    at = cell["checkpoints"].index(steps)
    values = {
        name: [seed[at] for seed in cell[name]]
        for name in ("mse", "output_power", "output_spread")
    }
    values["excess"] = _minus(values["mse"], cell["target_power"])
    final = {}
    for name, per_seed in values.items():
        mean, sd = mean_and_sd(per_seed)
        final[name] = {"mean": mean, "sd": sd, "per_seed": per_seed}
    return final


def markdown(report: Report) -> str:
    """Write the report.

    Args:
      report: of :func:`collect`.

    Returns:
      Markdown, readable on a terminal too.
    """
    parts = [
        "# Table 2: MSE after training on random pairs",
        _settings(report),
        _draws(report),
        comparison_table(report),
        "MSE and excess (MSE - M): mean ± standard deviation over the seeds. The last "
        "row of each block is 1 + excess - paper, both at the expected M = 1. The "
        "paper does not print its M, whose standard deviation is "
        f"{_draw_deviation(report):.4f}: a difference of that size that all rows share "
        "is the paper's draw.",
        "## Why: what is read out",
        readout_table(report),
        _readout_sentence(report),
        "## Why: when training stops",
        _timing_sentence(report),
        timing_table(report),
        _overtaking(report),
        "## What a cell costs",
        "Seconds with all its seeds and steps, of which "
        f"{_compile_seconds(report):.1f} in the mean compile it.",
        cost_table(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _settings(report: Report) -> str:
    config = report["config"]
    task, network, optimizer = (config[k] for k in ("task", "network", "optimizer"))
    bias = "with" if network["use_bias"] else "no"
    batch = f"batch {config['batch_size']:,}"
    if config["batch_size"] == task["samples"]:
        batch = "full batch"
    momentum = optimizer["momentum"]
    return (
        f"{task['samples']:,} pairs in N(0, I), dimension {task['dim']}; Φ = "
        f"{network['activation']}, one W for each layer, {bias} bias, "
        f"{network['init']}; SGD"
        f"{f' with momentum {momentum}' if momentum else ''} on the mean over samples "
        f"and dimensions, rate {optimizer['learning_rate']:g} (lower rate: "
        f"{optimizer['learning_rate'] * optimizer['slow_factor']:g}), {batch}, "
        f"{config['steps']:,} steps; β = {config['heavy_ball_beta']} for HB.\n"
        f"{report['device']}, {report['finished']}, "
        f"{report['wall_seconds']:.0f} s summed over the cells; jax "
        f"{report['versions']['jax']}, flax {report['versions']['flax']}."
    )


def _compile_seconds(report: Report) -> float:
    return float(np.mean([cell["compile_seconds"] for cell in report["cells"]]))


def _draws(report: Report) -> str:
    cell = report["cells"][0]
    draws = ", ".join(
        f"seed {seed}: {power:.5f} ({constant - power:+.5f})"
        for seed, power, constant in zip(
            cell["seeds"], cell["target_power"], cell["constant_mse"], strict=True
        )
    )
    return f"M = mean f² of the draw (best constant output: MSE - M): {draws}."


def _draw_deviation(report: Report) -> float:
    task = report["config"]["task"]
    return (2 / (task["samples"] * task["dim"])) ** 0.5


def _readout_sentence(report: Report) -> str:
    differences = []
    for depth in report["config"]["readout"]["depths"]:
        pair = [find(report, name, depth) for name in ("agd_readout", "agd2")]
        if all(pair):
            first, second = (c["final"]["mse"]["per_seed"] for c in pair)
            differences += map(abs, _minus(first, second))
    cells = report["cells"]
    rest = max(
        abs(e - p)
        for cell in cells
        for e, p in zip(
            cell["final"]["excess"]["per_seed"],
            cell["final"]["output_power"]["per_seed"],
            strict=True,
        )
    )
    text = (
        "Over all cells and seeds the excess is mean out² to within "
        f"{rest:.1e}; *depends on input* is the part of it that is variance over "
        "the samples."
    )
    if not differences:
        return text
    return (
        f"AGD with AGD2's read-out differs from AGD2 by {max(differences):.1e} at most "
        f"over the seeds: they are one network. {text}"
    )


def _timing_sentence(report: Report) -> str:
    config = report["config"]
    return (
        f"Excess over M at {config['timing']['depth']} layers, mean over the seeds; "
        f"Table 2 stops at {config['steps']:,} steps. `agd2_slow` is AGD2 at "
        f"{config['optimizer']['slow_factor']:g} times the rate."
    )


def _overtaking(report: Report) -> str:
    """Say which structure passes which, and when."""
    rate = report["config"]["optimizer"]["learning_rate"]
    steps = report["config"]["timing"]["checkpoints"]
    names = timed(report)
    excess = {s: [excess_at(report, s, step) for step in steps] for s in names}
    lines = []
    for i, j in itertools.pairwise(range(len(steps))):
        passed = {
            first: [
                second
                for second in names
                if excess[first][i] > excess[second][i]
                and excess[first][j] < excess[second][j]
            ]
            for first in names
        }
        texts = [f"{a} overtakes {', '.join(b)}" for a, b in passed.items() if b]
        if texts:
            span = f"{rate * steps[i]:g} and {rate * steps[j]:g}"
            lines.append(f"- between {span}: {'; '.join(texts)}")
    if not lines:
        return "The order does not change."
    return "\n".join(["The order moves with rate x steps:", "", *lines])


def _minus(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [float(x - y) for x, y in zip(a, b, strict=True)]
