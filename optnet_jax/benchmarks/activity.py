"""What a benchmark is doing: a line when something begins, and while it lasts."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

PATIENCE = 3.0
"""Seconds of silence after which a person wonders."""


class Activity:
    """What is under way, and when a line of it was printed last.

    Attributes:
      what: is under way.
      began: when it began, in seconds of a monotonic clock.
      said: when the last line was printed.
    """

    def __init__(self) -> None:
        self.what, self.began, self.said = "", 0.0, 0.0

    def begin(self, what: str, now: float) -> str:
        """Note what begins; returns the line that says so."""
        self.what, self.began, self.said = what, now, now
        return what

    def remind(self, now: float) -> str | None:
        """Return the line that is due after so much silence, if one is."""
        if not self.what or now - self.said < PATIENCE:
            return None
        self.said = now
        return f"{self.what}: {now - self.began:.0f} s"


_ACTIVITY = Activity()


def begin(what: str) -> None:
    """Print what begins.

    Args:
      what: such as "resnet56: compile".
    """
    _print(_ACTIVITY.begin(what, time.monotonic()))


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Print every few seconds what is under way, for as long as the context lasts."""
    ended = threading.Event()

    def remind() -> None:
        while not ended.wait(PATIENCE / 6):
            if line := _ACTIVITY.remind(time.monotonic()):
                _print(line)

    thread = threading.Thread(target=remind, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _ACTIVITY.what = ""


def _print(line: str) -> None:
    print(line, flush=True)
