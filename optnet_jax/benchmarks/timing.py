"""Times of what takes turns, so that a busy machine slows all of it alike.

PyTorch has a process of its own, :func:`other_process`: neither side then runs with the
other's settings of the C library, its threads or its memory.
"""

import contextlib
import functools
import importlib.util
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

from optnet_jax.benchmarks.programs import Program
from optnet_jax.benchmarks.suite import Row
from optnet_jax.errors import InputError

Runs = Mapping[str, Callable[[], object]]
"""Name -> what runs once and waits until it is done."""

WARM_UP = 2
"""Rounds before those that count."""


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the quartiles of repeated measurements, JSON-able.

    >>> spread([1.0, 2.0, 4.0])
    {'median': 2.0, 'low': 1.5, 'high': 3.0, 'repeats': 3}
    """
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "low": low, "high": high, "repeats": len(values)}


def default_clock() -> Callable[[], float]:
    """Return the process's CPU time where the CPU computes, else the wall time.

    Other processes do not lengthen CPU time, but a device's work is not in it.
    """
    return time.process_time if jax.default_backend() == "cpu" else time.perf_counter


def _timed(
    run: Callable[[], object], clock: Callable[[], float]
) -> Callable[[], float]:
    """Make a function that runs another and returns the seconds that it took."""

    def seconds() -> float:
        start = clock()
        run()
        return clock() - start

    return seconds


def time_programs(
    programs: Mapping[str, Program],
    repeats: int,
    torch: Mapping[str, Callable[[], float]],
) -> dict[str, Row]:
    """Time programs, and PyTorch's of the same name, in turns.

    Args:
        programs: by name.
        repeats: timed rounds.
        torch: PyTorch's, see :func:`torch_process`.

    Returns:
        name -> ``ours``, a spread of seconds, and what the compiler says; beside
        PyTorch also ``torch`` and ``ratio``, its time by ours: of each round, as what
        slows all of one cancels.
    """
    turns: dict[tuple[str, str], Callable[[], float]] = {}
    for name, program in programs.items():
        turns[name, "ours"] = _timed(program.run, default_clock())
        if name in torch:
            turns[name, "torch"] = torch[name]
    rounds = [
        {turn: run() for turn, run in turns.items()} for _ in range(WARM_UP + repeats)
    ]
    rows: dict[str, Row] = {}
    for name, program in programs.items():
        ours = [seconds[name, "ours"] for seconds in rounds[WARM_UP:]]
        rows[name] = {
            "ours": spread(ours),
            "compile_seconds": program.compile_seconds,
            "temporary_bytes": program.temporary_bytes,
            "bytes_accessed": program.bytes_accessed,
        }
        if name in torch:
            theirs = [seconds[name, "torch"] for seconds in rounds[WARM_UP:]]
            ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
            rows[name] |= {"torch": spread(theirs), "ratio": spread(ratios)}
    return rows


def has_torch() -> bool:
    """Return whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


@contextlib.contextmanager
def torch_process(
    make: str, outputs: Callable[[], Any], *arguments: Any
) -> Iterator[Mapping[str, Callable[[], float]]]:
    """Have PyTorch's process ready, for as long as the context lasts.

    Args:
        make: the function of :mod:`.torch_twins` that makes its runs of the device,
            "cpu" or "cuda", our outputs and the arguments.
        outputs: returns what we compute.
        *arguments: further ones.

    Yields:
        As :func:`other_process`; nothing where PyTorch is not installed.

    Raises:
        InputError: PyTorch computes something else.
    """
    if not has_torch():
        yield {}
        return
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    make = f"optnet_jax.benchmarks.torch_twins:{make}"
    with other_process(make, device, outputs(), *arguments) as runs:
        yield runs


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
    _runs.update({name: _timed(run, clock) for name, run in made.items()})
    return list(_runs)


def _run(name: str) -> float:
    return _runs[name]()
