"""The edge of a program: its screen, its signals, one line and a status at the end.

Every command line of this package runs inside :func:`edge`.
"""

import argparse
import contextlib
import io
import os
import select
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from absl import logging

from optnet_jax.errors import InputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""The signals that ask a program to stop; which one makes no other difference."""


class Interrupted(SystemExit):  # noqa: N818 (it ends the program; it is no error)
    """The program was asked to stop.

    Args:
        number: The signal.
        saved: Whether the state was saved first, and that was said.

    Attributes:
        code: 128 + signal number, the exit status that shells and Slurm expect.
    """

    def __init__(self, number: int, *, saved: bool = False):
        super().__init__(128 + number)
        self.name = signal.Signals(number).name
        self.saved = saved


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all bad input's are."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError."""
        raise InputError(f"{message}; see {self.prog} --help")


@contextlib.contextmanager
def edge() -> Iterator[None]:
    """Keep what a command line promises, for as long as the program lasts.

    A screen that is closed or full loses no work (see :class:`Screen`). A signal of
    ``STOPPING`` raises :class:`Interrupted`; a second one ends the program there and
    then. ``InputError`` is one line and status 2, being stopped one line and its
    status.
    """
    _open_missing()
    sys.stdout = _screen(sys.stdout, 1)
    sys.stderr = _screen(sys.stderr, 2)
    stop = _Stop()
    for number in STOPPING:
        set_handler(number, stop)
    sys.unraisablehook = stop.dropped
    try:
        yield
    except (InputError, Interrupted, KeyboardInterrupt) as error:
        stop.ending = True
        status = report(error)
        if not isinstance(error, InputError) and not getattr(error, "saved", False):
            leave(status)  # Python would wait for threads: a download, to its end
        sys.exit(status)
    finally:
        stop.ending = True


def report(error: BaseException) -> int:
    """Print what ended the program on standard error; returns the exit status."""
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted(signal.SIGINT)
    if isinstance(error, InputError):
        say_error(str(error))
        return 2
    if isinstance(error, SystemExit):
        if isinstance(error, Interrupted) and not error.saved:
            tell(f"stopped by {error.name}", sys.stderr)
        return error.code if isinstance(error.code, int) else int(bool(error.code))
    traceback.print_exception(error)
    return 1


def tell(text: str, stream: TextIO | None = None) -> None:
    """Print one line at once; where that fails, work goes on, which is said once."""
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError) as error:  # a ValueError: it is closed
        logging.log_first_n(
            logging.WARNING, "a line could not be printed (%s): going on", 1, error
        )


def say_error(text: str) -> None:
    """Print one line on standard error."""
    tell(f"error: {' '.join(text.split())}", sys.stderr)


def leave(status: int) -> None:
    """End the program now, from any thread, whatever the other threads do."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def in_background(work: Callable[[], Any]) -> Future:
    """Begin work in a thread that may be left behind: the program does not wait for it.

    It is for what obeys neither a time-out nor a signal.

    Returns:
        What it returns or raises, to be waited for as long as one likes.
    """
    ended: Future = Future()

    def run() -> None:
        try:
            ended.set_result(work())
        except BaseException as error:  # raised again where it is waited for
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return ended


def set_handler(number: int, handler: object) -> object:
    """Set a signal's handler, unless the signal is ignored (as under ``nohup``).

    Returns:
        The earlier handler.
    """
    before = signal.getsignal(number)
    if before is not signal.SIG_IGN:
        signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
    return before


class _Stop:
    """Handler: the first signal raises, the next one ends the program at once."""

    def __init__(self) -> None:
        self.ending = False

    def __call__(self, number: int, frame: types.FrameType | None) -> None:
        del frame
        if self.ending:
            os._exit(128 + number)
        self.ending = True
        raise Interrupted(number)

    def dropped(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Ask again where Python dropped the exception.

        It does in the callbacks of weak references and in ``__del__``, in which a
        program of JAX spends time: the request would be lost.
        """
        if not isinstance(unraisable.exc_value, Interrupted):
            sys.__unraisablehook__(unraisable)
            return
        self.ending = False
        number = signal.Signals[unraisable.exc_value.name]
        # From another thread: here it would be dropped once more.
        arguments = (os.getpid(), number)
        threading.Timer(0.01, os.kill, arguments).start()


class Screen(io.FileIO):
    """Standard output or error that may fail without ending the program.

    A reader that goes away (``| head``), a full disk, a terminal that is closed: the
    rest is thrown away, and standard error says so once.
    """

    def __init__(self, descriptor: int):
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write to the descriptor, or to nowhere once that has failed."""
        try:
            # None: a descriptor that does not block, as ssh and tmux leave it, is full.
            while (count := super().write(data)) is None:
                select.select([], [self.fileno()], [])
            return count
        except OSError as error:
            self._give_up(error.strerror)
            return memoryview(data).nbytes

    def _give_up(self, reason: str | None) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        if self.fileno() == 1:
            print(
                f"standard output failed ({reason}): going on without it",
                file=sys.stderr,
                flush=True,
            )


def _open_missing() -> None:
    """Open descriptors 0, 1, 2 that are closed: a file would take their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one


def _screen(stream: TextIO | None, descriptor: int) -> TextIO:
    """Make a stream a :class:`Screen`, which also prints what it cannot encode."""
    return io.TextIOWrapper(
        io.BufferedWriter(Screen(descriptor)),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=getattr(stream, "line_buffering", True),
        write_through=getattr(stream, "write_through", False),
    )
