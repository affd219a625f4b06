"""Where a run's metrics go: TensorBoard, ``metrics.jsonl`` and the coefficients' files.

Importing this file costs seconds (clu brings TensorFlow): only a run does, late.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from optnet_jax.data import quiet

quiet.import_tensorflow()

# After TensorFlow is told to be quiet.
from clu import metric_writers  # noqa: E402
from tensorboard.backend.event_processing.event_file_loader import (  # noqa: E402
    RawEventFileLoader,
)
from tensorboard.compat.proto.event_pb2 import (  # noqa: E402
    Event,  # pyright: ignore
)
from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: E402

from optnet_jax.errors import one_line  # noqa: E402
from optnet_jax.runs import files  # noqa: E402
from optnet_jax.runs.json_lines import JsonLines  # noqa: E402
from optnet_jax.training.coefficients import write_arrays  # noqa: E402


class RunWriter:
    """What a run writes as it goes: on process 0, and nothing on the others.

    Args:
        workdir: The run's directory.
        start_step: Step that the run goes on from, 0 for a new run.
        lines: What ``lines`` was at that step, by the checkpoint.
        learned: Whether there are learned coefficients.
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
        self._events: metric_writers.MetricWriter = metric_writers.MultiWriter([])
        if jax.process_index() != 0:
            return
        drop_later_events(workdir, start_step)
        for name in ("metrics", *(("coefficients",) if learned else ())):
            self._logs[name] = JsonLines(
                workdir / f"{name}.jsonl", start_step, lines.get(name, 0)
            )
        self._events = metric_writers.SummaryWriter(str(workdir))

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
        self._events.write_scalars(step, scalars)

    def write_coefficients(
        self, step: int, epoch: float, coefficients: Mapping[str, np.ndarray]
    ) -> None:
        """Write learned coefficients; for TensorBoard their histogram and mean."""
        if "coefficients" in self._logs:
            values = {name: value.tolist() for name, value in coefficients.items()}
            row = {"step": int(step), "epoch": float(epoch), **values}
            self._logs["coefficients"].append(row)
            self._events.write_histograms(step, coefficients)
            means = {f"{n} (mean)": value.mean() for n, value in coefficients.items()}
            self.write_events(step, means)

    def flush(self) -> None:
        """Hand TensorBoard what there is; every line is there as it is written."""
        self._events.flush()

    def sync(self) -> None:
        """Make the lines safe from a power cut."""
        for log in self._logs.values():
            log.sync()

    def close(self) -> None:
        """Close all files; write the coefficients as arrays, too."""
        self._events.close()
        for log in self._logs.values():
            log.close()
        if "coefficients" in self._logs:
            write_arrays(self._workdir)


def drop_later_events(workdir: Path, start_step: int) -> None:
    """Drop the events of steps that will be run (again).

    A killed start wrote them after its last checkpoint; TensorBoard would draw both
    them and those of the repeated steps. A file whose last record the kill cut short
    is made whole; one that cannot be read at all stays as it is.

    Args:
        workdir: The run's directory.
        start_step: Step that the run goes on from; 0 (a run that starts afresh) removes
            the files.
    """
    for file in sorted(workdir.glob("events.out.tfevents.*")):
        if file.is_symlink() or not file.is_file():
            logging.warning("%s is not a regular file: it is left alone", file)
        elif start_step == 0:
            file.unlink()
        else:
            _drop_later(file, start_step)


def _drop_later(file: Path, start_step: int) -> None:
    records, sound = [], True
    try:
        # One by one: what comes before the damage counts.
        for record in RawEventFileLoader(str(file)).Load():
            records.append((Event.FromString(record).step, record))
    except Exception as error:
        # TensorFlow raises whatever the damaged byte leads to.
        sound = False
        cause = one_line(error, 100)
        logging.warning("%s is damaged after %d events (%s)", file, len(records), cause)
    kept = [record for step, record in records if step <= start_step]
    whole = io.BytesIO()
    writer = RecordWriter(whole)
    for record in kept:
        writer.write(record)
    if (sound or kept) and len(whole.getvalue()) != file.stat().st_size:
        files.write_durably(file, whole.getvalue())
