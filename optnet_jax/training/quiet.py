"""Orbax says pages about a file that cannot be read or written; we say it in a line."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import orbax.checkpoint
from absl import logging as absl_logging

_ORBAX = str(Path(orbax.checkpoint.__file__).parent)


class QuietOrbax(logging.Filter):
    """Hold back what Orbax says while this is entered; ``--verbosity=0`` shows it.

    After an exception it stays: what the threads of a failed write say comes late.
    """

    def __enter__(self) -> "QuietOrbax":
        for logger in self._loggers():
            logger.addFilter(self)
        self._hook = sys.unraisablehook
        sys.unraisablehook = self._unraisable
        return self

    def __exit__(self, *exception: object) -> None:
        if any(exception):
            warnings.filterwarnings("ignore", "coroutine '.*write_fragment'")
            return
        for logger in self._loggers():
            logger.removeFilter(self)
        if sys.unraisablehook == self._unraisable:
            sys.unraisablehook = self._hook

    @staticmethod
    def _loggers() -> tuple[logging.Logger, ...]:
        return absl_logging.get_absl_logger(), logging.getLogger("asyncio")

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything through that does not come from Orbax."""
        if absl_logging.get_verbosity() >= absl_logging.INFO:
            return True
        if record.name == "asyncio":
            # A future that nobody asked after another one of the same write failed.
            return "never retrieved" not in record.getMessage()
        return not record.pathname.startswith(_ORBAX)

    def _unraisable(self, unraisable: Any) -> None:
        """TensorStore's threads answer to an event loop that ended with the write."""
        if str(unraisable.exc_value) != "Event loop is closed":
            self._hook(unraisable)
