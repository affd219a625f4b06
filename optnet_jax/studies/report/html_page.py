"""One self-contained page about a run, or about several that are compared.

Style sheet and drawings are in the page: it opens from a file and asks for nothing.
"""

import html
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optnet_jax.runs.files import write_output
from optnet_jax.structures.dense_stage import alpha_matrix
from optnet_jax.studies.report import html_charts as charts
from optnet_jax.studies.report import results
from optnet_jax.studies.report.html_runs import (
    Group,
    ShownRun,
    differing_fields,
    group,
    is_ignored,
)
from optnet_jax.studies.report.html_style import STYLE, color
from optnet_jax.studies.report.markdown import seeds

NOT_YET = "not yet"


def write(runs: Sequence[ShownRun], file: Path) -> Path:
    """Write the page.

    Args:
        runs: At least one.
        file: Where to.

    Raises:
        InputError: if the file cannot be written.
    """
    return write_output(file, render(runs).encode(), "choose another --html=FILE")


def render(runs: Sequence[ShownRun]) -> str:
    """The page as text."""
    groups = group(runs)
    title = groups[0].label if len(groups) == 1 else f"{len(groups)} runs compared"
    body = [
        f"<h1>{_text(title)}</h1>",
        _legend(groups),
        "<h2>Results</h2>",
        _results(groups),
        "<h2>Curves</h2>",
        _curves(groups),
        *_coefficients(groups),
        "<h2>Configuration</h2>",
        _configs(groups),
        "<h2>Environment</h2>",
        _environment(groups),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Without it a browser asks the server for /favicon.ico.
        '<link rel="icon" href="data:,">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n<body>"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def _legend(groups: Sequence[Group]) -> str:
    items = [
        f'<li><span class="swatch" style="background:{color(i)}"></span>'
        f"{_text(g.label)}</li>"
        for i, g in enumerate(groups)
    ]
    return f'<ul class="legend">{"".join(items)}</ul>' if len(groups) > 1 else ""


def _results(groups: Sequence[Group]) -> str:
    header = ["run", "seeds", "last top-1 error (%)", "best (%)", "parameters"]
    header += ["epochs", "wall time (s)", "images/s"]
    rows = [
        [
            g.label,
            seeds([run.seed for run in g.runs]),
            _spread(run.error("final") for run in g.runs),
            _spread(run.error("best") for run in g.runs),
            _of_result(g.runs, "parameters", lambda v: f"{v:,}"),
            _epochs(g.runs),
            _of_result(g.runs, "wall_seconds", lambda v: f"{v:.0f}"),
            _of_result(g.runs, "images_per_second", lambda v: f"{v:,.0f}"),
        ]
        for g in groups
    ]
    parts = [_table(header, rows)]
    if any(len(g.runs) > 1 for g in groups):
        each = [
            [run.path.name, str(run.seed)]
            + [_error(run.error(which)) for which in ("final", "best")]
            + [f"{run.epochs:g}", "" if run.result else "unfinished"]
            for g in groups
            for run in g.runs
        ]
        header = ["run", "seed", "last top-1 error (%)", "best (%)", "epochs", ""]
        parts.append(_details("Each seed", _table(header, each)))
    parts.append(
        '<p class="note">Mean ± standard deviation over the seeds. The best epoch is '
        "chosen by the test split itself, and so too low by construction.</p>"
    )
    return "".join(parts)


def _epochs(runs: Sequence[ShownRun]) -> str:
    if all(run.result is not None for run in runs):
        return _of_result(runs, "epochs", lambda v: f"{v:g}")
    planned = runs[0].config.get("schedule", {}).get("epochs")
    done = ", ".join(f"{run.epochs:g}" for run in runs)
    return f"unfinished: {done}" + (f" of {planned:g}" if planned else "")


def _curves(groups: Sequence[Group]) -> str:
    shown = [
        charts.line_chart(
            [*_lines(groups, "test/loss"), *_lines(groups, "train/loss", dashed=True)],
            "epoch",
            "cross-entropy",
            log=True,
        ),
        charts.line_chart(
            [
                *_lines(groups, "test/top1_error"),
                *_lines(groups, "train/top1_error", dashed=True),
            ],
            "epoch",
            "top-1 error (%)",
            log=True,
        ),
        charts.line_chart(
            _lines(groups, "learning_rate"), "epoch", "learning rate", log=True
        ),
    ]
    note = '<p class="note">Solid: test. Dashed: training, with augmentation and '
    note += "dropout where the run has them. Several seeds: thin, their mean heavy. "
    note += "What is 0 has no place on a logarithmic axis.</p>"
    return f'<div class="charts">{"".join(shown)}</div>{note}'


def _lines(
    groups: Sequence[Group], metric: str, *, dashed: bool = False
) -> list[charts.Line]:
    lines = []
    for index, g in enumerate(groups):
        series = [(run, *run.series(metric)) for run in g.runs]
        several = len(series) > 1
        for run, x, y in series:
            label = f"{g.label}, seed {run.seed}: {metric}"
            faint = (1.0, 0.3) if several else (1.8, 1.0)
            lines.append(charts.Line(label, x, y, color(index), *faint, dashed=dashed))
        length = min(len(x) for _, x, _ in series)
        if several and length:
            # Over the epochs that all seeds have reached.
            mean = np.mean([y[:length] for _, _, y in series], axis=0)
            label = f"{g.label}, mean of {len(series)} seeds: {metric}"
            x = series[0][1][:length]
            lines.append(charts.Line(label, x, mean, color(index), dashed=dashed))
    return lines


def _coefficients(groups: Sequence[Group]) -> list[str]:
    parts = []
    for g in groups:
        for run in g.runs[:1]:
            names = [name for name in run.coefficients if name != "epoch"]
            if names:
                which = f"{g.label}, seed {run.seed}" if len(groups) > 1 else ""
                which = which or (f"seed {run.seed}" if len(g.runs) > 1 else "")
                parts.append(f"<h3>{_text(which)}</h3>" if which else "")
            parts += [_coefficient(run, name) for name in names]
    return ["<h2>Learned coefficients</h2>", *parts] if parts else []


def _coefficient(run: ShownRun, name: str) -> str:
    values = run.coefficients[name].astype(float)
    epochs = run.coefficients["epoch"]
    flat = values.reshape(len(epochs), -1)
    lines = [
        charts.Line(f"{name}[{i}]", epochs, flat[:, i], color(0), 1.0, 0.5)
        for i in range(flat.shape[1])
    ]
    mean = charts.Line(f"{name}, mean", epochs, flat.mean(1), "currentColor", 2.2)
    paths = charts.line_chart([*lines, mean], "epoch", name)
    last = f"{name} at epoch {epochs[-1]:g}"
    dense = run.config.get("model", {}).get("name", "").startswith("agd_net")
    if dense and name.endswith("alpha"):
        matrix = alpha_matrix(flat[-1])
        matrix = np.where(np.tri(len(matrix)), matrix, np.nan)
        final = charts.heat_map(matrix, last, "target k+1", "source j")
    else:
        final = charts.heat_map(flat[-1:], last, "value", "layer")
    return (
        f'<div class="charts"><figure>{paths}<figcaption>{_text(name)} over training, '
        f"each and their mean (heavy)</figcaption></figure><figure>{final}"
        f"<figcaption>{_text(last)}</figcaption></figure></div>"
    )


def _configs(groups: Sequence[Group]) -> str:
    configs = [g.config for g in groups]
    differing = [name for name in differing_fields(configs) if not is_ignored(name)]
    names = sorted({name for config in configs for name in config} - {"name", "seed"})
    header = ["field", *(g.label for g in groups)]

    def table(fields: Iterable[str]) -> str:
        rows = [
            [_Html(f"<code>{_text(field)}</code>")]
            + [str(config.get(field, "not set")) for config in configs]
            for field in fields
        ]
        marks = [field in differing for field in fields]
        return _table(header, rows, marks)

    if len(groups) == 1:
        return _details("All fields", table(names), is_open=True)
    found = (
        table(differing) if differing else "<p>They differ in nothing but the seed.</p>"
    )
    return f"<h3>What differs</h3>{found}{_details('All fields', table(names))}"


def _environment(groups: Sequence[Group]) -> str:
    def joined(g: Group, get: Callable[[Any], Any]) -> str:
        found = {get(run.result) for run in g.runs if run.result is not None}
        texts = sorted({str(value) for value in found if value is not None})
        return "; ".join(texts) or NOT_YET

    packages = list(
        dict.fromkeys(
            package
            for g in groups
            for run in g.runs
            for package in (run.result or {}).get("versions", {})
        )
    )
    fields: dict[str, Callable[[Any], Any]] = {
        "device": lambda r: r.get("device"),
        "data": lambda r: r.get("split") or r.get("dataset"),
        "date": lambda r: r.get("date"),
    }
    for package in packages:
        fields[package] = lambda r, p=package: r.get("versions", {}).get(p)
    rows = [[name, *(joined(g, get) for g in groups)] for name, get in fields.items()]
    marks = [len(set(row[1:])) > 1 for row in rows]
    rows.append(["directory", *(_folder(g) for g in groups)])
    return _table(["", *(g.label for g in groups)], rows, [*marks, False])


def _folder(g: Group) -> str:
    return ", ".join(run.path.name for run in g.runs)


def _of_result(runs: Sequence[ShownRun], name: str, show: Callable[[Any], str]) -> str:
    """A number of the results: its mean where the seeds differ."""
    found = [run.result.get(name) for run in runs if run.result]
    values = [value for value in found if value is not None]
    if not values:
        return NOT_YET
    mean = values[0] if len(set(values)) == 1 else float(np.mean(values))
    return show(mean)


def _spread(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NOT_YET
    mean, deviation = results.mean_and_deviation(known)
    return f"{mean:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")


def _error(value: float | None) -> str:
    return NOT_YET if value is None else f"{value:.2f}"


def _table(
    header: Sequence[str], rows: Sequence[Sequence[str]], marks: Sequence[bool] = ()
) -> str:
    marks = marks or [False] * len(rows)
    head = "".join(f"<th>{_text(cell)}</th>" for cell in header)
    lines = [
        f"<tr{' class=differs' if mark else ''}>"
        + "".join(f"<td>{_text(cell)}</td>" for cell in row)
        + "</tr>"
        for row, mark in zip(rows, marks, strict=True)
    ]
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _details(summary: str, content: str, *, is_open: bool = False) -> str:
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{_text(summary)}</summary>{content}</details>"


class _Html(str):
    """Text that is HTML already; all other text is escaped where a page takes it in."""


def _text(value: str) -> _Html:
    return value if isinstance(value, _Html) else _Html(html.escape(value))
