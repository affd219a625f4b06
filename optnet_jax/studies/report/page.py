"""One self-contained page about a run, or about several that are compared.

Plotly's program is in the page: it opens from a file and asks for nothing.
"""

import functools
import html
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import numpy as np
import plotly.graph_objects as go
import plotly.offline

from optnet_jax.recurrences.history_sum import alpha_matrix
from optnet_jax.runs.json_lines import is_number
from optnet_jax.studies.markdown import ranges, with_sd
from optnet_jax.studies.report.runs import (
    NOT_SET,
    Group,
    Run,
    differing_fields,
    group,
)

NOT_YET = "not yet"
# Okabe and Ito's, which colour-blind readers can tell apart.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#777777")
CURVES = (
    ("cross-entropy", ("test/loss", "train/loss")),
    ("top-1 error (%)", ("test/top1_error", "train/top1_error")),
    ("learning rate", ("learning_rate",)),
)
LAYOUT = {
    "template": "none",
    "height": 320,
    "margin": {"l": 60, "r": 10, "t": 10, "b": 45},
    "showlegend": False,
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": "#808080"},
    "hoverlabel": {"namelength": -1},
    "modebar": {"bgcolor": "rgba(0,0,0,0)"},
}
GRID = {"gridcolor": "rgba(128,128,128,0.25)", "zeroline": False}


def render(runs: Iterable[Run]) -> str:
    """Return the page as text.

    Args:
        runs: At least one, finished or not.
    """
    groups = group(runs)
    names = {name for g in groups for name in g.config} - {"name", "seed"}
    environment = list(_environment(groups))
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("page.html.jinja").render(
        plotly=markupsafe.Markup(plotly.offline.get_plotlyjs()),
        groups=groups,
        colors=COLORS,
        results=[_result(g.label, g.runs) for g in groups],
        seeds=[_result(run.path.name, [run]) for g in groups for run in g.runs],
        repeats=[map(_place, pair) for g in groups for pair in g.repeats],
        curves=[_curve(groups, *curve) for curve in CURVES],
        coefficients=[item for g in groups for item in _coefficients(g)],
        fields=[
            [name, *(str(g.config.get(name, NOT_SET)) for g in groups)]
            for name in sorted(names)
        ],
        differing=differing_fields([g.config for g in groups]),
        environment=environment,
        changed=[name for name, *texts in environment if len(set(texts)) > 1],
        directories=[", ".join(run.path.name for run in g.runs) for g in groups],
    )


def _place(run: Run) -> str:
    """Name a workdir so that a copy of the same name is told apart."""
    return "/".join(run.path.parts[-2:])


def _result(label: str, runs: Sequence[Run]) -> list[str]:
    """Return a row of the results: of runs that differ in their seed, or of one."""
    return [
        label,
        ranges([run.seed for run in runs]),
        _spread(run.error("final") for run in runs),
        _spread(run.error("best") for run in runs),
        _of_result(runs, "parameters", "{:,}"),
        _epochs(runs),
        _of_result(runs, "wall_seconds", "{:.0f}"),
        _of_result(runs, "images_per_second", "{:,.0f}"),
    ]


def _spread(errors: Iterable[float | None]) -> str:
    known = [error for error in errors if error is not None]
    return with_sd(known, 2) if known else NOT_YET


def _of_result(runs: Iterable[Run], name: str, shown: str) -> str:
    """Return a number of the results: its mean where the seeds differ."""
    found = [run.result.get(name) for run in runs]
    values = [value for value in found if value is not None]
    if not values:
        return NOT_YET
    return shown.format(values[0] if len(set(values)) == 1 else np.mean(values))


def _epochs(runs: Sequence[Run]) -> str:
    if all(run.result for run in runs):
        return _of_result(runs, "epochs", "{:g}")
    schedule = runs[0].config.get("schedule", {})
    # Steps go before epochs, and how many of them an epoch has stands nowhere.
    planned = None if schedule.get("steps") else schedule.get("epochs")
    done = ", ".join(f"{run.epochs:g}" for run in runs)
    return f"unfinished: {done}" + (f" of {planned:g}" if is_number(planned) else "")


def _environment(groups: Sequence[Group]) -> Iterable[list[str]]:
    """Devices, data, dates and versions: rows of a name and a text for each group."""
    told = [[_told(run.result) for run in g.runs if run.result] for g in groups]
    for name in dict.fromkeys(name for runs in told for run in runs for name in run):
        texts = [{str(run[name]) for run in runs if name in run} for runs in told]
        yield [name, *("; ".join(sorted(found)) or NOT_YET for found in texts)]


def _told(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "device": result["device"],
        "data": result.get("split") or result["dataset"],
        "date": result["date"],
        **result.get("versions", {}),
        "commit": result.get("commit") or "not recorded",
    }


def _curve(groups: Sequence[Group], label: str, metrics: Sequence[str]) -> str:
    """Metrics over the epochs: each seed's, and their mean where there are several."""
    lines = []
    for (index, g), metric in itertools.product(enumerate(groups), metrics):
        dash = "dash" if metric.startswith("train/") else "solid"
        style = {"color": COLORS[index % len(COLORS)], "dash": dash}
        series = [run.series(metric) for run in g.runs]
        for run, (x, y) in zip(g.runs, series, strict=True):
            name = f"{g.label}, seed {run.seed}: {metric}"
            lines.append(_line(x, y, name, style, faint=len(series) > 1))
        # Over the epochs that all seeds have.
        common = functools.reduce(np.intersect1d, (x for x, _ in series))
        if len(series) > 1 and len(common):
            mean = np.mean([y[np.isin(x, common)] for x, y in series], axis=0)
            name = f"{g.label}, mean of {len(series)} seeds: {metric}"
            lines.append(_line(common, mean, name, style))
    return _chart(lines, label, log=True)


def _line(
    x: np.ndarray, y: np.ndarray, name: str, style: dict[str, Any], faint: bool = False
) -> dict[str, Any]:
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "name": html.escape(name),
        # A line of one point is invisible.
        "mode": "markers" if len(x) == 1 else "lines",
        "line": {"width": 1 if faint else 2, **style},
        "opacity": 0.35 if faint else 1,
    }


def _chart(lines: list[dict[str, Any]], label: str, *, log: bool = False) -> str:
    """Lines over the epochs, or a word that there are none yet."""
    y_axis = {"title": html.escape(label), **GRID}
    if log:
        y_axis |= {"type": "log", "dtick": "D2"}
        for line in lines:
            # Plotly would draw a line down to 0, out of the chart.
            line["y"] = [value if value > 0 else math.nan for value in line["y"]]
    if not any(np.isfinite(line["y"]).any() for line in lines):
        return f"{label}: no values yet"
    x_axis = {"title": "epoch", "rangemode": "tozero", **GRID}
    return _html(go.Figure(lines, {"xaxis": x_axis, "yaxis": y_axis}))


def _coefficients(g: Group) -> Iterable[dict[str, str]]:
    """Paths and last values of what the first seed of a group has learned."""
    run = g.runs[0]
    epochs = run.recorded
    for name, values in run.coefficients.items():
        lines = [
            _line(epochs, path, f"{name}[{i}]", {"color": COLORS[0]}, faint=True)
            for i, path in enumerate(values.T)
        ]
        mean = _line(epochs, values.mean(1), f"{name}, mean", {"color": "#808080"})
        yield {
            "run": f"{g.label}, seed {run.seed}",
            "name": name,
            "epoch": f"{epochs[-1]:g}",
            "paths": _chart([*lines, mean], name),
            "last": _heat_map(run, name, values[-1]),
        }


def _heat_map(run: Run, name: str, values: np.ndarray) -> str:
    """Draw the last values, red above 0 and blue below: α as a triangle."""
    network = run.config.get("model", {}).get("name")
    if str(network).startswith("agd_net") and name.endswith("alpha"):
        matrix, rows, columns = alpha_matrix(values), "target k+1", "source j"
        matrix = np.where(np.tri(len(matrix)), matrix, np.nan)
    else:
        matrix, rows, columns = values[None], "value", "layer"
    largest = np.abs(matrix).max(where=np.isfinite(matrix), initial=0.0) or 1.0
    heat = go.Heatmap(
        z=matrix.tolist(),
        y=list(range(1, len(matrix) + 1)),
        zmin=-largest,
        zmax=largest,
        colorscale="RdBu_r",
        texttemplate="%{z:.2f}" if matrix.shape[1] <= 16 else None,
        hovertemplate=f"{rows} %{{y}}, {columns} %{{x}}: %{{z:.4g}}<extra></extra>",
        xgap=1,
        ygap=1,
    )
    x_axis = {"title": columns, "dtick": 1}
    y_axis = {"title": rows, "dtick": 1, "autorange": "reversed"}
    return _html(go.Figure(heat, {"xaxis": x_axis, "yaxis": y_axis}))


def _html(figure: go.Figure) -> markupsafe.Markup:
    """Return the figure's part of the page, JSON in which no tag can close."""
    text = figure.update_layout(LAYOUT).to_html(
        full_html=False,
        include_plotlyjs=False,
        # No button that would send the data to a server.
        config={"displaylogo": False, "showSendToCloud": False, "responsive": True},
    )
    return markupsafe.Markup(text)
