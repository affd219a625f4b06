"""Orbax logs pages about a file that cannot be read or written; we say it in a line."""

import logging
from pathlib import Path

import orbax.checkpoint
from absl import logging as absl_logging

_ORBAX = str(Path(orbax.checkpoint.__file__).parent)


class QuietOrbax(logging.Filter):
    """Hold back what Orbax logs while this is entered; ``--verbosity=0`` shows it."""

    def __enter__(self) -> "QuietOrbax":
        absl_logging.get_absl_logger().addFilter(self)
        return self

    def __exit__(self, *exception: object) -> None:
        absl_logging.get_absl_logger().removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything through that does not come from Orbax's files."""
        wanted = absl_logging.get_verbosity() >= absl_logging.INFO
        return wanted or not record.pathname.startswith(_ORBAX)
