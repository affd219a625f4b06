"""The stability report: roots, norms with warnings, and the trial's verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from optnet_jax.studies.comparison import Comparison, compare
from optnet_jax.studies.stability.config import StabilityConfig
from optnet_jax.studies.stability.trial import STRUCTURES
from optnet_jax.studies.study import provenance
from optnet_jax.studies.tables import markdown_table

Report = dict[str, Any]
"""What ``stability.json`` holds, see :func:`collect`."""

RESNET, RESNET_SUM, HB_NET = STRUCTURES


def collect(
    config: StabilityConfig,
    roots: Sequence[dict[str, Any]],
    norms: Sequence[dict[str, Any]],
    cells: Sequence[dict[str, Any]],
) -> Report:
    """Put the three parts together and judge the trial.

    Args:
      config: the study's config.
      roots: a structure's name, radius, angle and period (None: it does not turn).
      norms: a structure's name, norms, growth and warnings.
      cells: what ``train_cell`` returned for each.
    """
    return {
        **provenance(config),
        "wall_seconds": round(sum(cell["wall_seconds"] for cell in cells), 1),
        "roots": list(roots),
        "norms": list(norms),
        "cells": list(cells),
        "verdicts": {
            _kind(normalize): judge(config.trial.seeds, cells, normalize)
            for normalize in config.trial.normalize
        },
    }


def _kind(normalize: bool) -> str:
    return "with batch normalisation" if normalize else "without normalisation"


def find(cells: Sequence, structure: str, depth: int, normalize: bool) -> dict:
    """Return the cell of a structure and depth."""
    return next(
        cell
        for cell in cells
        if (cell["structure"], cell["depth"], cell["normalize"])
        == (structure, depth, normalize)
    )


def failures(cell: dict[str, Any]) -> list[int]:
    """Return for each seed the number of rates at which it failed."""
    return np.sum(cell["failed"], axis=0).tolist()


def compare_failures(
    seeds: Sequence[int], cells: Sequence, depth: int, normalize: bool, baseline: str
) -> Comparison:
    """Compare HB-Net's failed runs with a ResNet's, seed by seed.

    Args:
      seeds: of the trial.
      cells: of the trial.
      depth: weight layers.
      normalize: with batch normalisation.
      baseline: a key of :data:`~optnet_jax.studies.stability.trial.STRUCTURES`.

    Returns:
      The comparison, in failed rates.
    """
    ours, theirs = (
        dict(zip(seeds, failures(find(cells, s, depth, normalize)), strict=True))
        for s in (HB_NET, baseline)
    )
    found = compare(ours, theirs)
    assert found is not None
    return found


def judge(seeds: Sequence[int], cells: Sequence, normalize: bool) -> str:
    """Return the verdict on "HB-Net is more stable than ResNet at depth" (§7.2).

    At the greatest depth, against He's ResNet: supported if fewer of HB-Net's runs fail
    (exact sign-flip test over the seeds at 5 %), reversed if more do.

    Args:
      seeds: of the trial.
      cells: of the trial.
      normalize: which half of it.
    """
    depth = max(cell["depth"] for cell in cells)
    found = compare_failures(seeds, cells, depth, normalize, RESNET)
    heads = {"better": "supported", "worse": "reversed"}
    head = heads.get(found.verdict, "not supported")
    if found.verdict.startswith("cannot tell"):
        head = found.verdict
    ours, theirs = (
        _count(find(cells, structure, depth, normalize))
        for structure in (HB_NET, RESNET)
    )
    return (
        f"{head}: of runs with {depth} layers {ours} of HB-Net's and {theirs} of "
        f"ResNet's fail (p = {found.p_value:.2g})"
    )


def _count(cell: dict[str, Any]) -> str:
    return f"{np.sum(cell['failed'])}/{np.size(cell['failed'])}"


def markdown(report: Report) -> str:
    """Write the report."""
    settings = report["config"]["trial"]
    norms = report["config"]["stability"]["norms"]
    warnings = [f"- {line}" for entry in report["norms"] for line in entry["warnings"]]
    rates = settings["learning_rates"]
    parts = [
        "# What a structure does to signals and gradients",
        "\n".join(
            f"- HB-Net more stable than ResNet at depth, {kind}: **{sentence}**."
            for kind, sentence in report["verdicts"].items()
        ),
        "## Characteristic roots at T = 0",
        _root_table(report),
        f"## Norms: {norms['depth']} layers of {norms['width']}, Φ = "
        f"{norms['activation']}, He normal, not trained",
        _norm_table(report),
        "\n".join(warnings) or "No structure amplifies beyond the tolerance.",
        "## Training at depth",
        f"Dense units of §6.1, width {settings['width']}, {settings['steps']} steps on "
        f"digits, SGD with momentum 0.9, no warm-up, "
        f"{len(rates)} rates from {min(rates):g} to {max(rates):g}, "
        f"{len(settings['seeds'])} seeds. A run has failed if its loss at the end is "
        f"above {settings['failed_above']:g} or not finite.",
    ]
    for normalize in settings["normalize"]:
        parts += [
            f"### {_kind(normalize).capitalize()}",
            _trial_table(report, normalize),
        ]
    parts.append(
        f"{report['device']}, JAX {report['versions']['jax']}, {report['finished']}; "
        f"{report['wall_seconds']:.0f} s of training."
    )
    return "\n\n".join(parts) + "\n"


def _root_table(report: Report) -> str:
    rows = [
        [
            entry["name"],
            f"{entry['radius']:.4g}",
            f"{entry['angle']:.4g}°",
            _number(entry["period"], ".4g"),
            f"{entry['largest_radius']:.4g}",
        ]
        for entry in report["roots"]
    ]
    header = ["recurrence", "modulus", "angle", "period", "largest modulus, |λ| ≤ 1"]
    return markdown_table(header, rows)


def _norm_table(report: Report) -> str:
    rows = []
    for entry in report["norms"]:
        signal, gradient = entry["signal"], entry["gradient"]
        rows.append(
            [
                entry["name"],
                _ratio(signal[-1], signal[0]),
                _number(entry["signal_growth"], ".3f"),
                _ratio(gradient[0], gradient[-1]),
                _number(entry["gradient_growth"], ".3f"),
            ]
        )
    header = ["structure", "signal, last / first", "a layer"]
    return markdown_table([*header, "gradient, first / last", "a layer"], rows)


def _trial_table(report: Report, normalize: bool) -> str:
    settings = report["config"]["trial"]
    rates = settings["learning_rates"]
    rows = []
    for depth in settings["depths"]:
        for structure in STRUCTURES:
            cell = find(report["cells"], structure, depth, normalize)
            loss = median_loss(cell)
            least = int(np.argmin(loss))
            p = ""
            if structure != HB_NET:
                found = compare_failures(
                    settings["seeds"], report["cells"], depth, normalize, structure
                )
                p = f"{found.mean:+.2f} (p = {found.p_value:.2g})"
            rows.append(
                [
                    f"{depth}, {structure}",
                    f"{np.median(np.array(cell['first_gradient_norm'], float)):.2g}",
                    _number(np.median(largest_rates(cell, rates))),
                    f"{_number(loss[least])} @ {rates[least]:g}",
                    _count(cell),
                    f"{np.sum(cell['diverged'])}",
                    p,
                ]
            )
    header = ["layers, structure", "first gradient", "largest rate that trains"]
    header += ["least loss @ rate", "failed", "not finite", "HB-Net fails at"]
    return (
        markdown_table(header, rows)
        + "\n\nMedians over the seeds. The last column: at how many rates more HB-Net "
        "fails than this structure does, and the p-value."
    )


def median_loss(cell: dict[str, Any]) -> np.ndarray:
    """Return the median over the seeds of the final loss, infinite where diverged.

    Args:
      cell: what ``train_cell`` returned.

    Returns:
      [rates]
    """
    loss = np.array(cell["final_loss"], float)
    return np.median(np.where(np.isfinite(loss), loss, np.inf), axis=1)


def largest_rates(cell: dict[str, Any], rates: Sequence[float]) -> np.ndarray:
    """Return the largest learning rate up to which every rate trains.

    Args:
      cell: what ``train_cell`` returned.
      rates: ascending.

    Returns:
      A rate for each seed, 0 where the smallest fails. [seeds]
    """
    trains = np.cumprod(~np.array(cell["failed"], bool), axis=0).sum(0)
    return np.array([0.0, *rates])[trains]


def _number(value: float | None, form: str = ".2g") -> str:
    return format(value, form) if value and np.isfinite(value) else "-"


def _ratio(value: float | None, to: float | None) -> str:
    return _number(value / to if value is not None and to else None)
