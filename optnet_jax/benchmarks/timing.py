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
    ours, theirs = context.Pipe()
    sent = (theirs, default_clock(), make, jax.device_get(arguments))
    process = context.Process(target=_serve, args=sent, daemon=True)
    # Ctrl-C is ours to answer; a process inherits what is ignored when it starts.
    answer = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, answer)
    theirs.close()

    def receive() -> Any:
        try:
            answer = ours.recv()
        except (EOFError, ConnectionError):
            raise InputError("the other process ended: see its message above") from None
        if isinstance(answer, InputError):
            raise answer
        return answer

    def ask(name: str) -> float:
        with contextlib.suppress(BrokenPipeError):  # if it has ended, receiving says so
            ours.send(name)
        return receive()

    try:
        yield {name: functools.partial(ask, name) for name in receive()}
    except BaseException:
        process.terminate()
        raise
    finally:
        ours.close()
        process.join()


def _serve(
    connection: Any, clock: Callable[[], float], make: str, arguments: tuple
) -> None:
    """Return the process: make the runs, then run what is asked for until the end."""
    # JAX would take most of a GPU for the few numbers that PyTorch's side asks of it.
    jax.config.update("jax_platforms", "cpu")
    try:
        runs: Runs = pkgutil.resolve_name(make)(*arguments)
    except InputError as error:
        connection.send(error)
        return
    connection.send(tuple(runs))
    with contextlib.suppress(EOFError):  # the other end was closed
        while True:
            connection.send(timed(runs[connection.recv()], clock)())
