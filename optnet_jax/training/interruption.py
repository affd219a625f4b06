"""Being told to stop: SIGTERM, Ctrl-C, or a preemption notice of the cluster."""

import signal
import types

import jax
from jax.experimental import multihost_utils


class Interrupted(SystemExit):  # noqa: N818 (it ends the program; it is no error)
    """The run was asked to stop and saved its state first.

    Attributes:
        code: 128 + signal number, the exit status that shells and Slurm expect.
    """


class Interruption:
    """Context in which a request to stop is noted instead of obeyed at once.

    One process notes SIGTERM and SIGINT itself; a second SIGINT stops at once. Several
    processes must stop at the same step, which JAX's preemption service agrees on (it
    listens to SIGTERM by its own handler, which must stay in place).
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        del frame
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    def requested(self, step: int) -> bool:
        """Whether to save and stop after ``step`` (on every process alike)."""
        if jax.process_count() == 1:
            return self.signal is not None
        if multihost_utils.reached_preemption_sync_point(step):
            self.signal = signal.SIGTERM
        return self.signal is not None

    def stop(self) -> Interrupted:
        """The exception that ends the program with the status of the signal."""
        return Interrupted(128 + (self.signal or signal.SIGTERM))
