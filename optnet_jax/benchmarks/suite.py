"""What a suite of the benchmarks is, and the parts that they share."""

from __future__ import annotations

import abc
import argparse
import datetime
import platform
import sys
from pathlib import Path
from typing import Any, ClassVar

from optnet_jax.errors import InputError

Row = dict[str, Any]


class Suite(abc.ABC):
    """Measurements that answer one question.

    Attributes:
      one_core: whether the process is bound to one CPU core, so that its CPU time is
        that of one core whatever else runs.
    """

    one_core: ClassVar[bool] = True

    @abc.abstractmethod
    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the suite's own options."""

    @abc.abstractmethod
    def run(self, options: argparse.Namespace) -> list[Row]:
        """Measure.

        Args:
          options: those that :meth:`add_options` added.

        Returns:
          JSON-able rows.

        Raises:
          InputError: options that cannot be run.
        """

    @abc.abstractmethod
    def markdown(self, rows: list[Row]) -> str:
        """Return the rows as a Markdown table."""


class DrawnSuite(Suite):
    """A suite with a picture of its rows."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add ``--figure``."""
        parser.add_argument("--figure", default="", help="file for the picture")

    @abc.abstractmethod
    def draw(self, rows: list[Row], file: Path) -> None:
        """Draw the rows into a file."""


def number(value: float | None, factor: float = 1.0) -> str:
    """Return three digits of ``factor * value``, "-" for None.

    >>> number(0.0012345, 1e3), number(1234.5), number(None), number(0.0)
    ('1.23', '1234', '-', '0')
    """
    if value is None:
        return "-"
    value *= factor
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}" if value else "0"


def interval(spread: dict[str, float]) -> str:
    """Return a median and its quartiles.

    >>> interval({"median": 1.02, "low": 0.984, "high": 1.05, "repeats": 7})
    '1.02 (0.98-1.05)'
    """
    return "{median:.2f} ({low:.2f}-{high:.2f})".format(**spread)


def whole_numbers(text: str) -> tuple[int, ...]:
    """Read an option such as "1,2,4".

    Raises:
      InputError: anything else, or a number below 1.
    """
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"{text!r} must be whole numbers above 0, as 1,2,4")
    return tuple(int(part) for part in parts)


def environment() -> dict[str, str]:
    """Return what the numbers depend on."""
    import jax

    # Those that were used; tensorflow comes in packages of several names.
    packages = ("jax", "jaxlib", "flax", "torch", "tensorflow")
    modules = {name: sys.modules[name] for name in packages if name in sys.modules}
    return {
        "date": datetime.date.today().isoformat(),
        "device": jax.devices()[0].device_kind,
        "processor": _processor(),
        "python": platform.python_version(),
        **{name: module.__version__ for name, module in modules.items()},
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
