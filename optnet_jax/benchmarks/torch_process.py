"""PyTorch in a process of its own, which takes turns with ours.

Neither then runs with the other's settings of the C library, its threads or its memory:
each is as fast as for a user who has only that one.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import multiprocessing
import signal
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import jax

from optnet_jax.benchmarks.timing import Spread, ratios, take_turns, timed
from optnet_jax.errors import InputError

Runs = Mapping[str, Callable[[], object]]
"""Name -> what runs once and waits until it is done."""


def has_torch() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


class TorchProcess:
    """A process in which PyTorch has a core, or a GPU, to itself.

    Used in a ``with`` statement, which ends the process.
    """

    def __init__(self, make: Callable[..., Runs], *arguments: Any):
        """Start the process and wait until it has what it runs.

        Args:
          make: called there with "cpu" or "cuda" and the arguments. It must be found by
            its name in a module that does not need PyTorch, and check that what it
            returns computes what is compared with it.
          *arguments: anything that can be sent to a process, or arrays of JAX.

        Raises:
          InputError: that of ``make``.
        """
        # A fork would copy JAX's locks, but not the threads that release them.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        device = "cpu" if jax.default_backend() == "cpu" else "cuda"
        self._process = context.Process(
            target=_serve,
            args=(theirs, device, make, jax.device_get(arguments)),
            daemon=True,
        )
        # Ctrl-C is ours to answer; a process inherits what is ignored when it starts.
        answer = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._process.start()
        signal.signal(signal.SIGINT, answer)
        theirs.close()
        try:
            self._receive()
        except BaseException as error:
            self.__exit__(error)
            raise

    def __enter__(self) -> TorchProcess:
        """Return the process."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the process, at once after an exception."""
        self._connection.close()
        if any(exception):
            self._process.terminate()
        self._process.join()

    def seconds(self, kind: str) -> float:
        """Let it run once, and return the seconds that it took.

        Args:
          kind: a name of the runs.

        Raises:
          InputError: it ended.
        """
        self._connection.send(kind)
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            raise InputError("PyTorch's process ended: see its message above") from None
        if isinstance(answer, InputError):
            raise answer
        return answer


def beside(
    run: Callable[[], object], theirs: TorchProcess | None, kind: str, repeats: int
) -> dict[str, Any]:
    """Time a run of ours and PyTorch's of the same in turns.

    Args:
      run: ours; returns when its work is done.
      theirs: PyTorch's process, or None: ours alone is timed.
      kind: the name of its run.
      repeats: timed rounds.

    Returns:
      ``ours`` and, beside PyTorch, ``torch`` and ``ratio``, its time by ours: fields of
      :class:`~optnet_jax.benchmarks.timing.Spread`.
    """
    functions = {"ours": timed(run)}
    if theirs is not None:
        functions["torch"] = functools.partial(theirs.seconds, kind)
    times = take_turns(functions, repeats)
    spreads = {who: Spread.of(values) for who, values in times.items()}
    if theirs is not None:
        spreads["ratio"] = ratios(times["torch"], times["ours"])
    return {name: dataclasses.asdict(spread) for name, spread in spreads.items()}


def _serve(
    connection: Connection, device: str, make: Callable[..., Runs], arguments: tuple
) -> None:
    """The process: make the runs, then run what is asked for until the end."""
    # The coefficients of a network are computed by JAX, which would take most of a GPU.
    jax.config.update("jax_platforms", "cpu")
    import torch

    clock = time.perf_counter
    if device == "cpu":
        torch.set_num_threads(1)
        clock = time.process_time
    try:
        runs = make(device, *arguments)
    except InputError as error:
        connection.send(error)
        return
    connection.send(None)
    functions = {kind: timed(run, clock) for kind, run in runs.items()}
    while True:
        try:
            kind = connection.recv()
        except EOFError:  # the other end was closed
            return
        connection.send(functions[kind]())
