"""Times of what takes turns, so that a busy machine slows all of it alike.

PyTorch has a process of its own, :func:`other_process`: neither side then runs with the
other's settings of the C library, its threads or its memory.
"""

import contextlib
import functools
import multiprocessing
import pkgutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import jax
import numpy as np

from optnet_jax.errors import InputError

Runs = Mapping[str, Callable[[], object]]
"""Name -> what runs once and waits until it is done."""


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the quartiles of repeated measurements, JSON-able.

    >>> spread([1.0, 2.0, 4.0])
    {'median': 2.0, 'low': 1.5, 'high': 3.0, 'repeats': 3}
    """
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "low": low, "high": high, "repeats": len(values)}


def ratios(
    numerator: Sequence[float], denominator: Sequence[float]
) -> dict[str, float]:
    """Return the spread of the rounds' ratios: what slows a whole round cancels."""
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])


def default_clock() -> Callable[[], float]:
    """Return the process's CPU time where the CPU computes, else the wall time.

    Other processes do not lengthen CPU time, but a device's work is not in it.
    """
    return time.process_time if jax.default_backend() == "cpu" else time.perf_counter


def timed(
    function: Callable[[], object], clock: Callable[[], float] | None = None
) -> Callable[[], float]:
    """Make a function that runs another and returns the seconds that it took.

    Args:
        function: returns when its work is done.
        clock: seconds; None: :func:`default_clock`.
    """
    clock = clock or default_clock()

    def run() -> float:
        start = clock()
        function()
        return clock() - start

    return run


def take_turns(
    functions: Mapping[Any, Callable[[], Any]], repeats: int, warm_up: int = 2
) -> dict[Any, list[Any]]:
    """Run each function in turn, again and again.

    Args:
        functions: name -> function that runs once and returns the seconds of it.
        repeats: rounds that count.
        warm_up: rounds before them.

    Returns:
        name -> seconds of each round.
    """
    times: dict[Any, list[Any]] = {name: [] for name in functions}
    for i in range(warm_up + repeats):
        for name, function in functions.items():
            seconds = function()
            if i >= warm_up:
                times[name].append(seconds)
    return times


@contextlib.contextmanager
def other_process(
    make: str, *arguments: Any
) -> Iterator[Mapping[str, Callable[[], float]]]:
    """Have a process that makes runs, and runs one when it is asked.

    Args:
        make: "module:name" of the function that is called there with the arguments and
            returns :data:`Runs`. Its module is imported there only.
        *arguments: anything that can be sent to a process, or arrays of JAX.

    Yields:
        name -> what runs it once there and returns the seconds that it took.

    Raises:
        InputError: that of the function that makes the runs, or the process ended.
    """
    # A fork would copy JAX's locks, but not the threads that release them.
    context = multiprocessing.get_context("spawn")
    # Ctrl-C is ours to answer.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(1, context, signal.signal, ignore) as process:

        def ask(function: Callable[..., Any], *given: Any) -> Any:
            try:
                return process.submit(function, *given).result()
            except BrokenProcessPool:
                text = "the other process ended: see its message above"
                raise InputError(text) from None

        sent = (make, default_clock(), jax.device_get(arguments))
        try:
            names = ask(_make_runs, *sent)
            yield {name: functools.partial(ask, _run, name) for name in names}
        except BaseException:
            for child in multiprocessing.active_children():
                child.terminate()
            raise


_runs: dict[str, Callable[[], float]] = {}
"""Of the other process."""


def _make_runs(make: str, clock: Callable[[], float], arguments: tuple) -> list[str]:
    # JAX would take most of a GPU for the few numbers that PyTorch's side asks of it.
    jax.config.update("jax_platforms", "cpu")
    made: Runs = pkgutil.resolve_name(make)(*arguments)
    _runs.update({name: timed(run, clock) for name, run in made.items()})
    return list(_runs)


def _run(name: str) -> float:
    return _runs[name]()
