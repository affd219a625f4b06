"""The convergence report: layers needed, their power of κ, and rates."""

from __future__ import annotations

from typing import Any

from optnet_jax.studies.convergence import measure as convergence
from optnet_jax.studies.convergence.config import ConvergenceConfig
from optnet_jax.studies.convergence.measure import Results
from optnet_jax.studies.study import provenance
from optnet_jax.studies.tables import markdown_table


def collect(
    config: ConvergenceConfig, results: Results, duality: float, seconds: float
) -> dict[str, Any]:
    """Put together what ``convergence.json`` holds.

    Args:
      config: the study's config.
      results: what was measured.
      duality: the largest relative difference of tied network and method.
      seconds: wall time.
    """
    return {
        **provenance(config),
        "methods": _summarise(results, config.convergence.epsilon),
        "largest_duality_difference": duality,
        "wall_seconds": seconds,
    }


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


def markdown(summary: dict[str, Any]) -> str:
    """Write the report."""
    study = summary["config"]["convergence"]
    lines = [
        "# Layers needed to reach the minimiser of F (§5.1)",
        "",
        f"Layers until ‖xₖ - x⋆‖ ≤ {study['epsilon']:g} ‖x₀ - x⋆‖ for good, at most "
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
    return "-" if value is None else format(value, form)
