"""Figures of several panels that share one legend."""

from typing import Any

from matplotlib.figure import Figure


def panels(
    rows: int, columns: int, width: float, height: float, **shared: Any
) -> tuple[Figure, Any]:
    """Return a figure of panels of so many inches, and its axes, [rows, columns].

    ``sharex`` and ``sharey`` are those of ``Figure.subplots``.
    """
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def legend(figure: Figure, place: str = "lower center", columns: int = 4) -> Figure:
    """Add one legend outside all panels, each label once; return the figure."""
    found = {
        label: handle
        for axis in figure.axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        found.values(),
        found.keys(),
        loc=f"outside {place}",  # pyright: ignore
        ncols=columns,
        fontsize="small",
    )
    return figure
