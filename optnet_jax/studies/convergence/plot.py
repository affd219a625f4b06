"""The pictures: distance to the minimiser and F against depth, for each κ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from optnet_jax.runs import picture
from optnet_jax.studies.convergence.measure import Results


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw ``convergence_<activation>.png`` for each activation.

    Args:
      results: what was measured.
      folder: where; made where it is missing.

    Returns:
      The files.
    """
    return [
        _draw_one(activation, methods, folder / f"convergence_{activation}.png")
        for activation, methods in results.items()
    ]


def _draw_one(activation: str, methods: dict, path: Path) -> Path:
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
    return picture.save(figure, path, 110)
