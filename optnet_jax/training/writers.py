"""Where a run's metrics go: TensorBoard, ``metrics.jsonl`` and the coefficients' files.

TensorBoard's events are written without TensorFlow, whose import takes seconds.
"""

import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from optnet_jax.runs.json_lines import JsonLines
from optnet_jax.training.coefficients import write_arrays

_SECOND = re.compile(r"events\.out\.tfevents\.(\d{10})\.")


class EventFile(RecordWriter):
    """A file of events for TensorBoard, in the form of TensorFlow 2's summaries.

    Args:
        folder: Where it is put.
        start_step: What comes after it in older files, which a killed start wrote after
            its last checkpoint, is no longer shown.
    """

    def __init__(self, folder: Path, start_step: int):
        # TensorBoard reads files in the order of their names, and so of the seconds in
        # them, whatever clock wrote those.
        names = (_SECOND.match(file.name) for file in folder.iterdir())
        second = max([int(time.time()), *(int(name[1]) + 1 for name in names if name)])
        place = f"{socket.gethostname()}.{os.getpid()}.0"
        path = folder / f"events.out.tfevents.{second:010d}.{place}.v2"
        super().__init__(path.open("xb"))
        self.add(file_version="brain.Event:2")
        self.add(step=start_step + 1, session_log=SessionLog(status=SessionLog.START))

    def add(self, **content: Any) -> None:
        """Write an event."""
        self.write(Event(wall_time=time.time(), **content).SerializeToString())


class RunWriter:
    """What a run writes as it goes: on process 0, and nothing on the others.

    Args:
        workdir: The run's directory.
        start_step: Step that the run goes on from, 0 for a new run.
        lines: What ``lines`` was at that step, by the checkpoint.
        learned: Whether there are learned coefficients; without them the files of an
            earlier run's are deleted.
    """

    def __init__(
        self,
        workdir: Path,
        start_step: int,
        lines: Mapping[str, int],
        learned: bool = False,
    ):
        self._workdir = workdir
        self._logs: dict[str, JsonLines] = {}
        self._events: EventFile | None = None
        if jax.process_index() != 0:
            return
        for name in ("metrics", *(("coefficients",) if learned else ())):
            self._logs[name] = JsonLines(
                workdir / f"{name}.jsonl", start_step, lines.get(name, 0)
            )
        if not learned:
            for ending in ("jsonl", "npz"):
                (workdir / f"coefficients.{ending}").unlink(missing_ok=True)
        self._events = EventFile(workdir, start_step)

    @property
    def lines(self) -> dict[str, int]:
        """How many lines each file has that is appended to, by its name."""
        return {name: log.lines for name, log in self._logs.items()}

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Write a line such as ``{"step": 781, "train/loss": 1.2}``, and the events."""
        self.write_events(step, scalars)
        if "metrics" in self._logs:
            values = {name: float(np.asarray(value)) for name, value in scalars.items()}
            self._logs["metrics"].append({"step": int(step), **values})

    def write_events(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Write scalars for TensorBoard only: what another start would not repeat."""
        if self._events is not None:
            for name, value in scalars.items():
                summary = scalar_pb(name, np.asarray(value))
                self._events.add(step=int(step), summary=summary)

    def write_coefficients(
        self, step: int, epoch: float, coefficients: Mapping[str, np.ndarray]
    ) -> None:
        """Write learned coefficients; for TensorBoard their histogram and mean."""
        if "coefficients" in self._logs:
            values = {name: value.tolist() for name, value in coefficients.items()}
            row = {"step": int(step), "epoch": float(epoch), **values}
            self._logs["coefficients"].append(row)
            if self._events is not None:
                for name, value in coefficients.items():
                    summary = histogram_pb(name, value)
                    self._events.add(step=int(step), summary=summary)
            means = {f"{n} (mean)": value.mean() for n, value in coefficients.items()}
            self.write_events(step, means)

    def flush(self) -> None:
        """Hand TensorBoard what there is; every line is there as it is written."""
        if self._events is not None:
            self._events.flush()

    def sync(self) -> None:
        """Make the lines safe from a power cut."""
        for log in self._logs.values():
            log.sync()

    def close(self) -> None:
        """Close all files; write the coefficients as arrays, too."""
        for file in (self._events, *self._logs.values()):
            if file is not None:
                file.close()
        if "coefficients" in self._logs:
            write_arrays(self._workdir)
