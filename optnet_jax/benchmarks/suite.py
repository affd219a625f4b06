"""What a suite of the benchmarks is: a question, its cases, and its table."""

import argparse
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from optnet_jax.errors import InputError
from optnet_jax.networks import create
from optnet_jax.runs import picture
from optnet_jax.studies.tables import table

Row = dict[str, Any]
"""What was measured of one case, JSON-able."""

PATIENCE = 3.0
"""Seconds of silence after which a person wonders."""


class Column(NamedTuple):
    """A column of a suite's table.

    Attributes:
        label: its head.
        field: of the rows; a spread, see :func:`~.timing.spread`, is shown as its
            median.
        factor: takes the field to the unit of the label.
        quartiles: show those of the spread, too.
        missing: what stands for a field that a row has not.
    """

    label: str
    field: str
    factor: float = 1.0
    quartiles: bool = False
    missing: str = "-"

    def value(self, row: Row) -> Any:
        """Return what a row has here, in the label's unit; None: nothing."""
        value = row.get(self.field)
        if isinstance(value, dict):
            value = value["median"]
        return value if value is None or self.factor == 1 else value * self.factor

    def cell(self, row: Row) -> str:
        """Return what the table shows of a row."""
        value = self.value(row)
        if value is None:
            return self.missing
        if self.quartiles:
            return interval(row[self.field])
        return number(value) if isinstance(value, float) else str(value)


TIME = Column("ms a step", "ours", 1e3)
THEIRS = Column("PyTorch (ms)", "torch", 1e3, missing="not run")
RATIO = Column("PyTorch / ours", "ratio", quartiles=True)
MEMORY = Column("temporaries (MB)", "temporary_bytes", 1e-6)
COMPILE = Column("compile time (s)", "compile_seconds")


@dataclasses.dataclass(frozen=True)
class Suite:
    """Measurements that answer one question, as data.

    Attributes:
        name: on the command line.
        answers: what it measures, as the list of suites has it.
        cases: the name of the option that lists the cases.
        measure: a case and the options -> its rows.
        columns: of the table.
        options: option -> the arguments of ``ArgumentParser.add_argument``.
        repeats: timed rounds, by default; 0: nothing is run, programs are compiled and
            the machine's accelerators left alone.
        one_core: bind the process to one CPU core, so that its CPU time is that of one
            core whatever else runs.
        beside_torch: PyTorch is measured where it is installed.
        axis: what the rows' field ``at`` is: then the rows are curves, ``form`` against
            ``at``, which are sorted and can be drawn. "" for other rows.
    """

    name: str
    answers: str
    cases: str
    measure: Callable[[Any, argparse.Namespace], list[Row]]
    columns: tuple[Column, ...]
    options: Mapping[str, dict[str, Any]]
    repeats: int = 10
    one_core: bool = True
    beside_torch: bool = False
    axis: str = ""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the suite's options to its command."""
        repeats = {"type": positive, "default": self.repeats, "help": "timed rounds"}
        timed = {"repeats": repeats} if self.repeats else {}
        for name, fields in {**self.options, **timed}.items():
            parser.add_argument(f"--{name}", **fields)
        if self.axis:
            parser.add_argument("--figure", default="", help="file for the picture")

    def run(self, options: argparse.Namespace) -> list[Row]:
        """Measure every case.

        Raises:
            InputError: options that cannot be run.
        """
        cases = getattr(options, self.cases)
        rows = [row for case in cases for row in self.measure(case, options)]
        if self.axis:
            rows.sort(key=lambda row: (row["form"], row["at"]))
        return rows

    def markdown(self, rows: list[Row]) -> str:
        """Return the table of the rows."""
        return table(rows, [(column.label, column.cell) for column in self.columns])

    def draw(self, rows: list[Row], file: Path) -> None:
        """Draw a panel each for time, memory and compile time, log-log."""
        from matplotlib.figure import Figure

        figure = Figure((11, 4.2), layout="constrained")
        names = list(dict.fromkeys(row["form"].partition(", ")[0] for row in rows))
        panels = (TIME, MEMORY, COMPILE)
        for axes, column in zip(figure.subplots(1, len(panels)), panels, strict=True):
            for form in dict.fromkeys(row["form"] for row in rows):
                points = [row for row in rows if row["form"] == form]
                x, y = [row["at"] for row in points], list(map(column.value, points))
                # A colour for what stands before the comma, a line for what after.
                name, comma, _ = form.partition(", ")
                color, line = f"C{names.index(name)}", "--" if comma else "-"
                axes.plot(x, y, line, color=color, marker=".", label=form)
            axes.set(xscale="log", yscale="log", xlabel=self.axis, title=column.label)
            ticks = sorted({row["at"] for row in rows})
            axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=8)
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5)
        picture.save(figure, file, 130)


def number(value: float) -> str:
    """Return three digits of a value.

    >>> number(1.2345), number(1234.5), number(0.0)
    ('1.23', '1234', '0')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}" if value else "0"


def interval(spread: dict[str, float]) -> str:
    """Return a median and its quartiles.

    >>> interval({"median": 1.02, "low": 0.984, "high": 1.05, "repeats": 7})
    '1.02 (0.98-1.05)'
    """
    digits = 0 if spread["median"] >= 100 else 2
    median, low, high = (f"{spread[k]:.{digits}f}" for k in ("median", "low", "high"))
    return f"{median} ({low}-{high})"


def positive(text: str) -> int:
    """Read a whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number above 0")
    return int(text)


def whole_numbers(text: str) -> tuple[int, ...]:
    """Read whole numbers above 0, such as "1,2,4", for argparse."""
    return tuple(map(positive, text.split(",")))


def network_name(text: str) -> str:
    """Read the name of a network, for argparse."""
    try:
        create(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


_under_way = {"what": "", "since": 0.0}


def begin(what: str) -> None:
    """Print what begins, such as "resnet56: compile"."""
    _under_way.update(what=what, since=time.monotonic())
    print(what, flush=True)


@contextlib.contextmanager
def reminders() -> Iterator[None]:
    """Print every few seconds what is under way, for as long as the context lasts."""
    ended = threading.Event()

    def remind() -> None:
        while not ended.wait(PATIENCE):
            seconds = time.monotonic() - _under_way["since"]
            if _under_way["what"] and seconds >= PATIENCE / 3:
                print(f"{_under_way['what']}: {seconds:.0f} s", flush=True)

    thread = threading.Thread(target=remind, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _under_way["what"] = ""
