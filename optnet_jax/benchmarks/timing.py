"""Times of functions that take turns, so that a busy machine slows all of them."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import jax


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise the values."""
        low, middle, high = (
            statistics.quantiles(values, n=4, method="inclusive")
            if len(values) > 1
            else [values[0]] * 3
        )
        return cls(middle, low, high, len(values))


def timed(
    function: Callable[[], object], clock: Callable[[], float] | None = None
) -> Callable[[], float]:
    """Make a function that runs another and returns the seconds that it took.

    Args:
      function: returns when its work is done.
      clock: seconds; by default the one that fits, see :func:`default_clock`.
    """
    clock = clock or default_clock()

    def run() -> float:
        start = clock()
        function()
        return clock() - start

    return run


def take_turns(
    functions: Mapping[str, Callable[[], float]], repeats: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """Run each function in turn, again and again.

    Args:
      functions: name -> function that runs once and returns the seconds of it.
      repeats: rounds that count.
      warm_up: rounds before them.

    Returns:
      name -> seconds of each round.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(warm_up + repeats):
        for name, function in functions.items():
            seconds = function()
            if i >= warm_up:
                times[name].append(seconds)
    return times


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Summarise the ratios round by round: what slows a whole round cancels."""
    return Spread.of([a / b for a, b in zip(numerator, denominator, strict=True)])


def default_clock() -> Callable[[], float]:
    """Return the process's CPU time where the CPU computes, else the wall time.

    Other processes do not lengthen CPU time, but a device's work is not in it.
    """
    return time.process_time if jax.default_backend() == "cpu" else time.perf_counter
