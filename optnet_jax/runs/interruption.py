"""Being told to stop while steps are run: the state is saved first."""

import contextlib
import os
import signal
import threading
import types

import jax
from jax.experimental import multihost_utils

from optnet_jax.runs import distributed, program
from optnet_jax.runs.progress import say


class Interruption:
    """Context in which a request to stop is noted instead of obeyed at once.

    One process notes the signals of ``program.STOPPING`` itself; a second SIGINT stops
    at once. Several processes must stop at the same step, which JAX's preemption
    service agrees on. It listens to SIGTERM by a handler of its own, from here on, and
    the other signals are handed to it as SIGTERM.

    Python lets the main thread alone handle signals. Elsewhere nothing is noted, and
    that is said.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        numbers = set(program.STOPPING)
        if jax.process_count() > 1:
            distributed.listen_for_preemption()
            numbers -= {signal.SIGTERM}
        if threading.current_thread() is not threading.main_thread():
            say("not in the main thread: a signal or Ctrl-C stops without saving")
            return self
        for number in numbers:
            self._previous[number] = program.set_handler(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            program.set_handler(number, handler)

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        del frame
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)
        again = "; once more stops without" if number == signal.SIGINT else ""
        line = f"\n{self.signal.name}: saving after this step{again}\n"
        # A handler may interrupt a print, and Python's streams cannot be re-entered.
        with contextlib.suppress(OSError):
            os.write(2, line.encode())

    def requested(self, step: int) -> bool:
        """Say whether to save and stop after ``step`` (on every process alike)."""
        if jax.process_count() == 1:
            return self.signal is not None
        if not multihost_utils.reached_preemption_sync_point(step):
            return False
        self.signal = signal.SIGTERM
        return True

    def stop(self) -> program.Interrupted:
        """Return the exception that ends the program with the signal's status."""
        return program.Interrupted(self.signal or signal.SIGTERM, saved=True)
