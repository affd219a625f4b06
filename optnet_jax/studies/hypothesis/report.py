"""What the study found: error against depth, layers needed, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from optnet_jax.studies.comparison import Comparison, compare, student_interval
from optnet_jax.studies.hypothesis import verdict
from optnet_jax.studies.hypothesis.config import BASELINE, HypothesisConfig
from optnet_jax.studies.study import provenance
from optnet_jax.studies.tables import markdown_table

Report = dict[str, Any]
"""What ``hypothesis.json`` holds, see :func:`collect`."""


def collect(
    config: HypothesisConfig,
    cells: Sequence[dict[str, Any]],
    untrained: Sequence[dict[str, Any]],
    largest_residual: float,
) -> Report:
    """Put the cells together, compare and judge.

    Args:
      config: the study's config.
      cells: what ``train_cell`` returned for each.
      untrained: what ``run_untrained`` returned for each method.
      largest_residual: of the targets as fixed points.

    Returns:
      JSON-able: config, versions, device, cells, and for each tying the comparisons
      with gradient descent and the verdict.
    """
    report = {
        **provenance(config),
        "wall_seconds": round(sum(cell["wall_seconds"] for cell in cells), 1),
        "largest_target_residual": largest_residual,
        "untrained": list(untrained),
        "cells": list(cells),
    }
    study = report["config"]["hypothesis"]
    report["methods"] = _compare_methods(report)
    report["networks"] = {
        tying: _compare_networks(report, tying) for tying in study["tyings"]
    }
    report["verdicts"] = {
        tying: verdict.judge(
            {label: c["direction"] for label, c in report["methods"].items()},
            {label: c["direction"] for label, c in networks.items()},
        )
        for tying, networks in report["networks"].items()
    }
    return report


def errors_by_depth(report: Report, label: str, tying: str) -> list[dict[int, float]]:
    """Return depth -> relative test error of a structure, for each seed."""
    cells = {
        cell["depth"]: cell["error"]
        for cell in report["cells"]
        if (cell["part"], cell["label"], cell["tying"]) == ("linear_term", label, tying)
    }
    number = len(report["config"]["hypothesis"]["seeds"])
    return [{k: errors[i] for k, errors in cells.items()} for i in range(number)]


def untrained_by_depth(report: Report, label: str) -> list[dict[int, float]]:
    """Return iterations -> relative error of a method with the true W, for each seed.

    The start counts as no iteration.
    """
    found = next(u for u in report["untrained"] if u["label"] == label)
    return [dict(list(enumerate(errors))[1:]) for errors in found["error"]]


def _compare_methods(report: Report) -> dict[str, Any]:
    study = report["config"]["hypothesis"]
    baseline = untrained_by_depth(report, BASELINE)
    return {
        label: _as_json(
            verdict.compare_layers(
                untrained_by_depth(report, label), baseline, study["tolerances"]
            )
        )
        for label in study["methods"]
        if label != BASELINE
    }


def _compare_networks(report: Report, tying: str) -> dict[str, Any]:
    study = report["config"]["hypothesis"]
    baseline = errors_by_depth(report, BASELINE, tying)
    found = {}
    for label in study["methods"]:
        if label == BASELINE:
            continue
        errors = errors_by_depth(report, label, tying)
        entry = _as_json(verdict.compare_layers(errors, baseline, study["tolerances"]))
        entry["by_depth"] = {
            str(depth): _as_json(_compare_errors(errors, baseline, depth))
            for depth in sorted(study["depths"])
        }
        found[label] = entry
    return found


def _compare_errors(errors: Sequence, baseline: Sequence, depth: int) -> Comparison:
    """Compare log10 of the errors at one depth."""
    ours, theirs = (
        {i: math.log10(by_depth[depth]) for i, by_depth in enumerate(seeds)}
        for seeds in (errors, baseline)
    )
    found = compare(ours, theirs)
    assert found is not None
    return found


def _as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "mean": comparison.mean,
        "interval": comparison.interval and list(comparison.interval),
        "p_value": comparison.p_value,
        "differences": list(comparison.differences),
        "direction": verdict.direction(comparison),
        "verdict": comparison.verdict,
    }


def mean_and_band(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean and its 95 % interval (Student's, of the logarithms).

    Args:
      values: above 0, one for each seed.
    """
    logs = np.log10(np.maximum(values, 1e-12)).tolist()
    low, high = student_interval(logs) or (logs[0], logs[0])
    return 10 ** float(np.mean(logs)), 10**low, 10**high


def markdown(report: Report) -> str:
    """Write the report.

    Args:
      report: of :func:`collect`.
    """
    study = report["config"]["hypothesis"]
    seeds = len(study["seeds"])
    parts = [
        "# Do networks of faster methods need fewer layers?",
        "\n".join(
            f"- {tying} weights: **{sentence}**."
            for tying, sentence in report["verdicts"].items()
        ),
        f"Input b, target argmin F_b: x* = Φ(W x* + b), Φ = {study['activation']}, "
        f"κ = {study['condition']:g}, n = {study['dimension']}; largest residual of a "
        f"target {report['largest_target_residual']:.0e}. Each network: "
        f"{study['steps']} steps of Adam (cosine decay) on batches of "
        f"{study['batch_size']}, the rate of "
        f"{', '.join(f'{r:g}' for r in study['learning_rates'])} tuned on "
        f"{len(study['tuning_seeds'])} seed(s) of its own. Errors: squared, on "
        f"{study['samples']['test']} test inputs, relative to the variance of the "
        f"targets (the best constant has 1); geometric mean over {seeds} seeds, each "
        f"with its own W, inputs and initial weights.",
    ]
    for tying in study["tyings"]:
        parts += [
            f"## {tying.capitalize()} weights",
            _error_table(report, tying),
            _layer_table(report, tying),
            _comparison_table(report, tying),
        ]
    parts += [
        "## The target of §5.1 to the letter",
        "The input is x_0 alone, so argmin F is one vector for all inputs. Error "
        "relative to its power, and the part of the output that still depends on the "
        "input, untied weights:",
        _constant_table(report),
        f"{report['device']}, JAX {report['versions']['jax']}, {report['finished']}; "
        f"{report['wall_seconds']:.0f} s of cells, up to "
        f"{report['config']['parallel_cells']} at once.",
    ]
    return "\n\n".join(parts) + "\n"


def _error_table(report: Report, tying: str) -> str:
    study = report["config"]["hypothesis"]
    depths = sorted(study["depths"])
    rows = []
    for label in study["methods"]:
        cells = {
            c["depth"]: c
            for c in report["cells"]
            if (c["part"], c["label"], c["tying"]) == ("linear_term", label, tying)
        }
        rows.append([f"{label}, trained", *(_trained(cells[k]) for k in depths)])
        errors = untrained_by_depth(report, label)
        means = [mean_and_band([e[k] for e in errors])[0] for k in depths]
        rows.append([f"{label}, true W", *(f"{mean:.1e}" for mean in means)])
    header = ["error @ rate", *(f"{k} layers" for k in depths)]
    return (
        markdown_table(header, rows)
        + "\n\n*: the rate is at the edge of those tried; †: seeds that diverged."
    )


def _trained(cell: dict[str, Any]) -> str:
    mean = mean_and_band(cell["error"])[0]
    edge = "*" if cell["rate_at_the_edge"] else ""
    lost = f" †{cell['diverged']}" if cell["diverged"] else ""
    return f"{mean:.1e} @ {cell['learning_rate']:g}{edge}{lost}"


def _layer_table(report: Report, tying: str) -> str:
    study = report["config"]["hypothesis"]
    rows = []
    for label in study["methods"]:
        row = [label]
        for tolerance in study["tolerances"]:
            row.append(_needed(errors_by_depth(report, label, tying), tolerance))
            row.append(_needed(untrained_by_depth(report, label), tolerance))
        rows.append(row)
    header = ["smallest depth, median"]
    for tolerance in study["tolerances"]:
        header += [f"≤ {tolerance:g}, trained", "true W"]
    return (
        markdown_table(header, rows)
        + "\n\n(n): only n seeds reach the error at any depth that was tried."
    )


def _needed(errors: Sequence[dict[int, float]], tolerance: float) -> str:
    found = [verdict.layers_needed(by_depth, tolerance) for by_depth in errors]
    deepest = max(errors[0])
    median = float(np.median([n or 2 * deepest for n in found]))
    reached = sum(n is not None for n in found)
    text = f"{median:g}" if median <= deepest else f"> {deepest}"
    return text if reached == len(found) else f"{text} ({reached})"


def _comparison_table(report: Report, tying: str) -> str:
    study = report["config"]["hypothesis"]
    deepest = str(max(study["depths"]))
    rows = []
    for label, network in report["networks"][tying].items():
        method = report["methods"][label]
        at_depth = network["by_depth"][deepest]
        rows.append(
            [
                label,
                f"{method['mean']:+.2f} ({method['direction']})",
                _with_interval(network),
                f"{network['p_value']:.3g}",
                network["direction"],
                f"x {10 ** at_depth['mean']:.2g} ({at_depth['verdict']})",
            ]
        )
    header = ["against GD", "method", "network", "p", "layers at 5 %"]
    return (
        markdown_table([*header, f"error, {deepest} layers"], rows)
        + "\n\nIterations of the method and layers of the network in doublings: -1 is "
        "half of GD's. Paired by seed; p: exact two-sided sign-flip test."
    )


def _with_interval(entry: dict[str, Any]) -> str:
    if entry["interval"] is None:
        return f"{entry['mean']:+.2f}"
    low, high = entry["interval"]
    return f"{entry['mean']:+.2f} ({low:+.2f} to {high:+.2f})"


def _constant_table(report: Report) -> str:
    study = report["config"]["hypothesis"]
    depths = sorted(study["constant"]["depths"])
    rows = []
    for label in study["methods"]:
        row = [label]
        for depth in depths:
            cell = next(
                c
                for c in report["cells"]
                if (c["part"], c["label"], c["depth"]) == ("constant", label, depth)
            )
            row.append(f"{mean_and_band(cell['error'])[0]:.0e}")
            row.append(f"{mean_and_band(cell['spread'])[0]:.0e}")
        rows.append(row)
    header = ["structure"]
    for depth in depths:
        header += [f"error, {depth} layer(s)", "depends on input"]
    return markdown_table(header, rows)
