"""What a suite of the benchmarks is: a question, its cases, and its table."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from optnet_jax.errors import InputError
from optnet_jax.networks import create
from optnet_jax.studies.markdown import table

Row = dict[str, Any]
"""What was measured of one case, JSON-able."""


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

    def cell(self, row: Row) -> str:
        """Return what the table shows of a row."""
        value = row.get(self.field)
        if value is None:
            return self.missing
        if self.quartiles:
            return interval(value)
        if isinstance(value, dict):
            value = value["median"]
        value = value if self.factor == 1 else value * self.factor
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

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the suite's options to its command."""
        repeats = {"type": positive, "default": self.repeats, "help": "timed rounds"}
        timed = {"repeats": repeats} if self.repeats else {}
        for name, fields in {**self.options, **timed}.items():
            parser.add_argument(f"--{name}", **fields)

    def run(self, options: argparse.Namespace) -> list[Row]:
        """Measure every case.

        Raises:
            InputError: options that cannot be run.
        """
        cases = getattr(options, self.cases)
        return [row for case in cases for row in self.measure(case, options)]

    def markdown(self, rows: list[Row]) -> str:
        """Return the table of the rows."""
        return table(rows, [(column.label, column.cell) for column in self.columns])


def number(value: float) -> str:
    """Return three digits of a value.

    >>> number(0.5), number(1.2345), number(99.96), number(1234.5), number(0.0)
    ('0.500', '1.23', '100.', '1234', '0')
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
