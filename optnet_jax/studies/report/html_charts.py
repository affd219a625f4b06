"""Charts as inline SVG: lines over the epochs, and heat maps."""

import dataclasses
import html
import math
from collections.abc import Sequence

import numpy as np

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 40


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: Shown when the pointer rests on it.
        x: [n].
        y: [n]; where it is not finite the line is broken.
        color: Of CSS.
        width: In pixels.
        opacity: 0 to 1.
        dashed: Whether it is.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    color: str
    width: float = 1.8
    opacity: float = 1.0
    dashed: bool = False


def line_chart(
    lines: Sequence[Line], x_label: str, y_label: str, *, log: bool = False
) -> str:
    """Draw lines with axes, ticks and a grid.

    Args:
        lines: What is drawn.
        x_label: Of the horizontal axis.
        y_label: Of the vertical axis.
        log: Logarithmic vertical axis; values that are not above 0 are left out.

    Returns:
        An ``<svg>`` element, or a ``<p>`` that says that there is nothing to draw.
    """
    drawn = [(line, *_visible(line, log)) for line in lines]
    xs = np.concatenate([x[np.isfinite(y)] for _, x, y in drawn] or [np.empty(0)])
    ys = np.concatenate([y[np.isfinite(y)] for _, _, y in drawn] or [np.empty(0)])
    if not ys.size:
        return f'<p class="none">{html.escape(y_label)}: no values yet</p>'
    x_ticks, y_ticks = ticks(0.0, xs.max()), _y_ticks(ys, log)
    x_low, x_high = 0.0, max(xs.max(), x_ticks[-1]) or 1.0
    y_low, y_high = min(ys.min(), y_ticks[0]), max(ys.max(), y_ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        up = (y - y_low) / ((y_high - y_low) or 1.0)
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    parts = [_axes(place, x_ticks, y_ticks, log), _labels(x_label, y_label)]
    parts += [_path(line, x, y, place) for line, x, y in drawn]
    title = f"{y_label} over {x_label}"
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
    )


def heat_map(values: np.ndarray, label: str, row_label: str, column_label: str) -> str:
    """Draw a matrix, red above 0 and blue below, with its numbers if they have room.

    Args:
        values: [rows, columns]; NaN is left empty.
        label: What the entries are.
        row_label: What a row is.
        column_label: What a column is.

    Returns:
        An ``<svg>`` element.
    """
    rows, columns = values.shape
    side = min(36.0, max(4.0, (WIDTH - LEFT - RIGHT) / columns))
    width, height = LEFT + side * columns + RIGHT, TOP + side * rows + BOTTOM
    largest = np.nanmax(np.abs(values)) or 1.0
    parts = []
    for (row, column), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        x, y = LEFT + column * side, TOP + row * side
        told = f"{label}, {row_label} {row + 1}, {column_label} {column}: {value:.4g}"
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" '
            f'fill="{diverging(value / largest)}">'
            f"<title>{html.escape(told)}</title></rect>"
        )
        if side >= 28:
            ink = "#fff" if abs(value) > 0.6 * largest else "#222"
            parts.append(
                f'<text x="{x + side / 2:.1f}" y="{y + side / 2 + 3.5:.1f}" '
                f'class="cell" style="fill:{ink}">{value:.2f}</text>'
            )
    middle = LEFT + side * columns / 2
    down = TOP + side * rows / 2
    parts.append(
        f'<text x="{middle:.0f}" y="{height - BOTTOM + 18:.0f}" '
        f'class="name">{html.escape(column_label)} (0 to {columns - 1})</text>'
        f'<text transform="translate({LEFT - 14},{down:.0f}) rotate(-90)" '
        f'class="name">{html.escape(row_label)} (1 to {rows})</text>'
    )
    return (
        f'<svg class="heat" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{html.escape(label)}">{"".join(parts)}</svg>'
    )


def diverging(share: float) -> str:
    """A colour from blue (-1) through near-white (0) to red (1).

    >>> diverging(0.0), diverging(1.0), diverging(-1.0)
    ('rgb(247,247,247)', 'rgb(178,24,43)', 'rgb(33,102,172)')
    """
    end = (178, 24, 43) if share > 0 else (33, 102, 172)
    weight = min(abs(share), 1.0)
    mixed = (round(247 + (color - 247) * weight) for color in end)
    return f"rgb({','.join(map(str, mixed))})"


def ticks(low: float, high: float, number: int = 5) -> list[float]:
    """About ``number`` round values from ``low`` to ``high``.

    >>> ticks(0.0, 30.0)
    [0.0, 10.0, 20.0, 30.0]
    """
    if high <= low:
        return [low]
    raw = (high - low) / number
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _visible(line: Line, log: bool) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    if log:
        with np.errstate(divide="ignore", invalid="ignore"):
            y = np.log10(np.where(y > 0, y, np.nan))
    return x, np.where(np.isfinite(y), y, np.nan)


def _y_ticks(ys: np.ndarray, log: bool) -> list[float]:
    if not log:
        room = 0.0 if ys.max() > ys.min() else 0.5
        return ticks(ys.min() - room, ys.max() + room)
    low, high = math.floor(ys.min()), math.ceil(ys.max())
    high = max(high, low + 1)
    stride = max(1, (high - low) // 6)
    return [float(k) for k in range(low, high + 1, stride)]


def _axes(place, x_ticks: list[float], y_ticks: list[float], log: bool) -> str:
    parts = []
    for x in x_ticks:
        (px, bottom), (_, top) = place(x, y_ticks[0]), place(x, y_ticks[-1])
        parts.append(
            f'<line class="grid" x1="{px:.1f}" x2="{px:.1f}" y1="{bottom:.1f}" '
            f'y2="{top:.1f}"/><text x="{px:.1f}" y="{bottom + 15:.1f}" '
            f'class="tick middle">{x:g}</text>'
        )
    for y in y_ticks:
        (left, py), (right, _) = place(x_ticks[0], y), place(x_ticks[-1], y)
        shown = f"{10.0**y:g}" if log else f"{y:g}"
        parts.append(
            f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{py:.1f}" '
            f'y2="{py:.1f}"/><text x="{left - 6:.1f}" y="{py + 3.5:.1f}" '
            f'class="tick end">{shown}</text>'
        )
    return "".join(parts)


def _labels(x_label: str, y_label: str) -> str:
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    down = TOP + (HEIGHT - TOP - BOTTOM) / 2
    return (
        f'<text x="{middle}" y="{HEIGHT - 6}" class="name">{html.escape(x_label)}'
        f'</text><text transform="translate(13,{down}) rotate(-90)" class="name">'
        f"{html.escape(y_label)}</text>"
    )


def _path(line: Line, x: np.ndarray, y: np.ndarray, place) -> str:
    commands, pen_down, points = [], False, []
    for px, py in zip(x, y, strict=True):
        if np.isnan(py):
            pen_down = False
            continue
        across, down = place(px, py)
        commands.append(f"{'L' if pen_down else 'M'}{across:.1f},{down:.1f}")
        points.append((across, down))
        pen_down = True
    if not commands:
        return ""
    dash = ' stroke-dasharray="5 3"' if line.dashed else ""
    drawn = (
        f'<path d="{"".join(commands)}" fill="none" stroke="{line.color}" '
        f'stroke-width="{line.width}" stroke-opacity="{line.opacity}"{dash}>'
        f"<title>{html.escape(line.label)}</title></path>"
    )
    if len(points) == 1:  # a path of one point is invisible
        across, down = points[0]
        drawn += (
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{line.color}"/>'
        )
    return drawn
