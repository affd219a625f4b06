"""Files of one JSON object a line, which a run appends to and goes on with.

A kill cuts the last line short, a power cut may leave zeros: what is no row is left
out, and said.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from optnet_jax.runs import files

Row = dict[str, Any]


class JsonLines:
    """A file of rows, each with its ``step``, continued from an earlier start.

    Args:
        path: The file; made where it is missing.
        start_step: Step that the run goes on from: rows of later steps, which a killed
            start wrote after its last checkpoint, are dropped; 0 drops all.
        expected: How many rows the checkpoint says there were up to that step.

    Attributes:
        lines: Number of rows by now.

    Raises:
        InputError: if there is something else than a regular file.
        OSError: if it cannot be written.
    """

    def __init__(self, path: Path, start_step: int = 0, expected: int = 0):
        content = _content(path)
        rows = _parse(path, content) if start_step > 0 else []
        kept = [line for line, row in rows if row["step"] <= start_step]
        self.lines = len(kept)
        if len(kept) < expected:
            logging.warning(
                "%s has %d of %d rows up to step %d: the others are lost, and the run "
                "goes on without them",
                path,
                len(kept),
                expected,
                start_step,
            )
        whole = b"".join(line + b"\n" for line in kept)
        if whole != content:
            files.write_durably(path, whole)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        # Without a buffer: what could not be written would be written at the end.
        self._file = open(files.open_regular(path, flags), "ab", 0)  # noqa: SIM115

    def append(self, row: Mapping[str, Any]) -> None:
        """Append one row; it is safe from a kill at once."""
        line = json.dumps(row).encode() + b"\n"
        while line:
            line = line[self._file.write(line) :]
        self.lines += 1

    def sync(self) -> None:
        """Make what is there safe from a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> list[Row]:
    """Read the rows; none where there is no file.

    Raises:
        InputError: if there is something else than a regular file.
    """
    return [row for _, row in _parse(path, _content(path))]


def series(
    rows: Iterable[Mapping[str, Any]], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return one metric over the epochs.

    Returns:
        Epochs [n] and values [n]; empty where it was never written.
    """
    pairs = [(row.get("epoch"), row.get(name)) for row in rows]
    found = [pair for pair in pairs if all(map(is_number, pair))]
    epochs, values = np.array(found, float).reshape(-1, 2).T
    return epochs, values


def _content(path: Path) -> bytes:
    try:
        return files.read_regular(path)
    except FileNotFoundError:
        return b""


def _parse(path: Path, content: bytes) -> list[tuple[bytes, Row]]:
    # What follows the last newline is being written, or was when the run was killed.
    lines = content.split(b"\n")[:-1]
    found = [(line, row) for line in lines if (row := _row(line)) is not None]
    if len(found) < len(lines):
        logging.warning(
            "%s: %d of %d lines are damaged and left out",
            path,
            len(lines) - len(found),
            len(lines),
        )
    return found


def _row(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    ours = isinstance(row, dict) and is_number(row.get("step"))
    return row if ours else None


def is_number(value: Any) -> bool:
    """Say whether a JSON value is a number that a float holds: not true, nor 10⁴⁰⁰."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, float)
