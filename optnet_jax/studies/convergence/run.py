"""``--config=configs/convergence.py``: layers needed against the condition number."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optnet_jax.configuration import Config
from optnet_jax.errors import InputError
from optnet_jax.studies.convergence import measure as convergence
from optnet_jax.studies.convergence.measure import METHODS, Convergence
from optnet_jax.studies.convergence.minimiser import Problem, make_problem
from optnet_jax.studies.tables import markdown_table

Results = dict[str, dict[str, dict[float, Convergence]]]
"""activation -> method -> κ -> what happened."""


def run(config: Config, workdir: str) -> dict[str, Any]:
    """Measure every method on every problem; write tables, data and figures.

    Writes ``convergence.md``, ``convergence.json`` and one
    ``plots/convergence_<activation>.png`` each.

    Args:
      config: ``config.convergence`` has activations, conditions, dimension, depth,
        epsilon and radius; ``config.seed`` draws W and the start.
      workdir: where to write.

    Returns:
      What ``convergence.json`` holds.

    Raises:
      InputError: a bad field, or a directory that cannot be written.
    """
    started = time.monotonic()
    folder = Path(workdir)
    try:
        (folder / "plots").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the workdir {workdir} is not writable ({error.strerror}): choose another "
            f"with --workdir=DIR"
        ) from error
    with jax.enable_x64(True):
        results, duality = _measure_all(config)
    summary = {
        "name": config.name,
        "config": config.to_dict(),
        "methods": _summarise(results, config.convergence.epsilon),
        "largest_duality_difference": duality,
        "wall_seconds": round(time.monotonic() - started, 1),
        "device": str(jax.devices()[0]),
        "versions": {"jax": jax.__version__},
    }
    text = _markdown(summary)
    (folder / "convergence.md").write_text(text, "utf-8")
    (folder / "convergence.json").write_text(json.dumps(summary, indent=2), "utf-8")
    for activation, methods in results.items():
        _draw(activation, methods, folder / "plots" / f"convergence_{activation}.png")
    print(text, flush=True)
    return summary


def _measure_all(config: Config) -> tuple[Results, float]:
    study = config.convergence
    results: Results = {}
    duality = 0.0
    for activation in study.activations:
        methods = results.setdefault(activation, {})
        for condition in study.conditions:
            problem = make_problem(activation, condition, study.dimension, config.seed)
            for method in METHODS:
                recurrence = method.recurrence(problem.mu)
                methods.setdefault(method.label, {})[condition] = convergence.measure(
                    recurrence,
                    problem,
                    study.depth,
                    seed=config.seed,
                    radius=study.radius,
                    theoretical_rate=method.rate(problem.mu) if method.rate else None,
                )
                duality = max(duality, _duality(problem, recurrence))
            print(f"{activation}, κ = {condition:g}: measured", flush=True)
    return results, duality


def _duality(problem: Problem, recurrence: Any) -> float:
    return convergence.duality_check(problem, recurrence, depth=50)


def _summarise(results: Results, epsilon: float) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for activation, methods in results.items():
        for label, by_condition in methods.items():
            needed = [r.layers_needed(epsilon) for r in by_condition.values()]
            exponent = convergence.fit_exponent(list(by_condition), needed)
            summary.setdefault(activation, {})[label] = {
                "condition": list(by_condition),
                "layers": needed,
                "exponent": exponent,
                "fitted_rate": [r.fitted_rate for r in by_condition.values()],
                "theoretical_rate": [r.theoretical_rate for r in by_condition.values()],
            }
    return summary


def _markdown(summary: dict[str, Any]) -> str:
    study = summary["config"]["convergence"]
    lines = [
        "# Layers needed to reach the minimiser of F (§5.1)",
        "",
        f"Layers until ‖x_k - x*‖ ≤ {study['epsilon']:g} ‖x_0 - x*‖ for good, at most "
        f"{study['depth']}; p of layers ∝ κ^p; the contraction of one layer at the "
        f"largest κ, fitted and in theory. n = {study['dimension']}, float64, seed "
        f"{summary['config']['seed']}; {summary['device']}, JAX "
        f"{summary['versions']['jax']}, {summary['wall_seconds']} s.",
        "",
        f"Largest relative |U x_k - z_k| of tied network and method (50 layers): "
        f"{summary['largest_duality_difference']:.1e}.",
    ]
    for activation, methods in summary["methods"].items():
        conditions = next(iter(methods.values()))["condition"]
        header = ["method", *(f"κ = {k:g}" for k in conditions)]
        header += ["p", "rate, fitted", "rate, theory"]
        rows = []
        for label, row in methods.items():
            layers = [str(n or f"> {study['depth']}") for n in row["layers"]]
            cells = [
                label,
                *layers,
                _number(row["exponent"], ".2f"),
                _number(row["fitted_rate"][-1], ".5f"),
                _number(row["theoretical_rate"][-1], ".5f"),
            ]
            rows.append(cells)
        lines += ["", f"## {activation}", "", markdown_table(header, rows)]
    return "\n".join(lines) + "\n"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


def _draw(activation: str, methods: dict, path: Path) -> None:
    from matplotlib.figure import Figure

    conditions = list(next(iter(methods.values())))
    figure = Figure(figsize=(4.2 * len(conditions), 6.4), layout="constrained")
    axes = figure.subplots(2, len(conditions), squeeze=False, sharey="row")
    for column, condition in enumerate(conditions):
        for index, (label, by_condition) in enumerate(methods.items()):
            result, color = by_condition[condition], f"C{index}"
            name = label if column == 0 else None
            axes[0, column].semilogy(result.distance, color=color, label=name)
            # Below this F cannot be told from F* by rounding.
            gap = np.where(result.gap > 1e-9, result.gap, np.nan)
            axes[1, column].semilogy(gap, color=color)
            if result.theoretical_rate is not None:
                theory = result.theoretical_rate ** np.arange(len(result.distance))
                axes[0, column].semilogy(theory, ":", color=color)
        axes[0, column].set_title(f"κ = {condition:g}")
        axes[0, column].set_ylim(1e-14, 10)
        axes[1, column].set_ylim(1e-9, 10)
        axes[1, column].set_xlabel("layers")
        # Past the slowest accelerated method nothing new is seen.
        longest = max(r[condition].layers_needed(1e-10) or 0 for r in methods.values())
        for row in (0, 1):
            axes[row, column].set_xlim(0, min(longest or 400, 400))
    axes[0, 0].set_ylabel("‖x_k - x*‖, relative\n(dotted: theory)")
    axes[1, 0].set_ylabel("F(x_k) - F*, relative")
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    figure.suptitle(f"Convergence on F, Φ = {activation}")
    figure.savefig(path, dpi=110)
