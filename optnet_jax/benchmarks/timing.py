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


def take_turns(
    functions: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
    warm_up: int = 2,
) -> dict[str, list[float]]:
    """Run each function in turn, again and again, and time each call.

    Args:
      functions: name -> function; each returns when its work is done.
      repeats: timed rounds.
      clock: seconds. The process's CPU time is not lengthened by other processes, but
        is of use only where the work is done on the CPU.
      warm_up: rounds before them.

    Returns:
      name -> seconds of each round.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(warm_up + repeats):
        for name, function in functions.items():
            start = clock()
            function()
            if i >= warm_up:
                times[name].append(clock() - start)
    return times


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Summarise the ratios round by round: what slows a whole round cancels."""
    return Spread.of([a / b for a, b in zip(numerator, denominator, strict=True)])


def clock() -> Callable[[], float]:
    """Return the clock that fits: the process's CPU time, where the CPU computes."""
    return time.process_time if jax.default_backend() == "cpu" else time.perf_counter
