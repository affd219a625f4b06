"""Time, memory and compile time of a step against one quantity, as curves."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from optnet_jax.benchmarks.activity import begin
from optnet_jax.benchmarks.jax_runs import Program
from optnet_jax.benchmarks.suite import DrawnSuite, Row, number, whole_numbers
from optnet_jax.benchmarks.timing import Spread, take_turns, timed
from optnet_jax.errors import InputError
from optnet_jax.runs import picture
from optnet_jax.studies.tables import markdown_table

PANELS = (
    ("seconds", 1e3, "ms a step"),
    ("temporary_bytes", 1e-6, "temporaries (MB)"),
    ("compile_seconds", 1.0, "compile time (s)"),
)
"""Field of a row, factor, label."""
DECADE = 10
"""Factor that an axis spans at least."""


class Curves(DrawnSuite):
    """Programs of which one quantity differs, each in several forms.

    Attributes:
      axis: the quantity.
      values: it, by default.
      batch: images or samples a step, by default; 0: the quantity is the batch.
    """

    axis: ClassVar[str]
    values: ClassVar[tuple[int, ...]]
    batch: ClassVar[int] = 0

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the values, the batch, and how often a step is timed."""
        super().add_options(parser)
        text = ",".join(map(str, self.values))
        parser.add_argument("--values", default=text, help=f"{self.axis}: {text}")
        parser.add_argument("--repeats", type=int, default=7, help="timed rounds")
        if self.batch:
            parser.add_argument(
                "--batch", type=int, default=self.batch, help="samples a step"
            )

    def programs(
        self, value: int, options: argparse.Namespace
    ) -> Mapping[str, Callable[[], Program]]:
        """Return curve -> what compiles its program at this value."""
        raise NotImplementedError

    def run(self, options: argparse.Namespace) -> list[Row]:
        """Compile and time; the curves take turns at each value."""
        if options.repeats < 1 or getattr(options, "batch", 1) < 1:
            raise InputError("--repeats and --batch must be positive")
        rows: list[Row] = []
        for value in whole_numbers(options.values):
            programs = {}
            for curve, make in self.programs(value, options).items():
                begin(f"{curve}, {value} {self.axis}: compile")
                programs[curve] = make()
            runs = {curve: timed(program.run) for curve, program in programs.items()}
            begin(f"{value} {self.axis}: {options.repeats} rounds")
            times = take_turns(runs, options.repeats)
            for curve, program in programs.items():
                rows.append(
                    {
                        "curve": curve,
                        "at": value,
                        "seconds": dataclasses.asdict(Spread.of(times[curve])),
                        "temporary_bytes": program.temporary_bytes,
                        "compile_seconds": program.compile_seconds,
                    }
                )
        return rows

    def markdown(self, rows: list[Row]) -> str:
        """Lay out the rows, one for each curve and value."""
        lines = [
            [row["curve"], str(row["at"])]
            + [number(_value(row, field), factor) for field, factor, _ in PANELS]
            for row in sorted(rows, key=lambda row: (row["curve"], row["at"]))
        ]
        return markdown_table(
            ["form", self.axis, *(label for *_, label in PANELS)], lines
        )

    def draw(self, rows: list[Row], file: Path) -> None:
        """Draw a panel each for time, memory and compile time, log-log."""
        from matplotlib.figure import Figure

        figure = Figure((11, 4.2), layout="constrained")
        curves = list(dict.fromkeys(row["curve"] for row in rows))
        styles = _styles(curves)
        for axis, (field, factor, label) in zip(
            figure.subplots(1, len(PANELS)), PANELS, strict=True
        ):
            for curve in curves:
                points = [
                    (row["at"], factor * _value(row, field))
                    for row in rows
                    if row["curve"] == curve and _value(row, field) is not None
                ]
                x, y = [x for x, _ in points], [y for _, y in points]
                axis.plot(x, y, label=curve, **styles[curve])
            ticks = sorted({row["at"] for row in rows})
            axis.set(xscale="log", yscale="log", xlabel=self.axis, title=label)
            axis.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=8)
            low, high = axis.get_ylim()
            # What hardly changes is to look so.
            if high < DECADE * low:
                middle = (low * high) ** 0.5
                axis.set_ylim(middle / DECADE**0.5, middle * DECADE**0.5)
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5)
        picture.save(figure, file, 130)


def _value(row: Row, field: str) -> Any:
    value = row[field]
    return value["median"] if isinstance(value, dict) else value


def _styles(curves: list[str]) -> dict[str, dict[str, Any]]:
    """A colour for what stands before the comma, a line style for what stands after."""
    names = list(dict.fromkeys(curve.partition(", ")[0] for curve in curves))
    forms = list(dict.fromkeys(curve.partition(", ")[2] for curve in curves))
    return {
        curve: {
            "color": f"C{names.index(curve.partition(', ')[0])}",
            "linestyle": ("-", "--", ":", "-.")[forms.index(curve.partition(", ")[2])],
            "marker": "o",
            "markersize": 4,
        }
        for curve in curves
    }
