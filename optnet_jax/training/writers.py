"""Where metrics go: TensorBoard events and ``metrics.jsonl``, through clu.

Importing this file costs seconds (clu brings TensorFlow): only the loop does, late.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optnet_jax.data import quiet

quiet.import_tensorflow()

# After TensorFlow is told to be quiet.
from clu import metric_writers  # noqa: E402

from optnet_jax.training.events import drop_later_events  # noqa: E402


class JsonLinesWriter(metric_writers.MetricWriter):
    """Scalars as one JSON object per line: ``{"step": 781, "train/loss": 1.2}``.

    Args:
        path: The file; lines of an earlier start stay.
        start_step: Step that the run goes on from: lines of later steps, which a killed
            start wrote after its last checkpoint, are dropped.
    """

    def __init__(self, path: Path, start_step: int = 0):
        kept = [
            line
            for line in read_json_lines(path)
            if line["step"] <= start_step and start_step > 0
        ]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in kept), "utf-8")
        self._file = path.open("a", encoding="utf-8")

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Append one line."""
        values = {name: float(np.asarray(value)) for name, value in scalars.items()}
        self._file.write(json.dumps({"step": int(step), **values}) + "\n")
        self._file.flush()

    def write_summaries(self, step, values, metadata=None) -> None:
        """Not a scalar: TensorBoard only."""

    def write_images(self, step, images) -> None:
        """Not a scalar: TensorBoard only."""

    def write_videos(self, step, videos) -> None:
        """Not a scalar: TensorBoard only."""

    def write_audios(self, step, audios, *, sample_rate) -> None:
        """Not a scalar: TensorBoard only."""

    def write_texts(self, step, texts) -> None:
        """Not a scalar: TensorBoard only."""

    def write_histograms(self, step, arrays, num_buckets=None) -> None:
        """Not a scalar: TensorBoard only."""

    def write_hparams(self, hparams) -> None:
        """Hyper-parameters are in ``config.json``."""

    def flush(self) -> None:
        """Every line is flushed as it is written."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8").split("\n")
    # What follows the last newline was being written when the process was killed.
    return [json.loads(line) for line in lines[:-1]]


def create_writer(workdir: Path, start_step: int) -> metric_writers.MetricWriter:
    """TensorBoard events and ``metrics.jsonl`` on process 0, nothing on the others.

    Args:
        workdir: The run's directory.
        start_step: Step that the run goes on from, 0 for a new run.

    Returns:
        A clu writer.
    """
    if jax.process_index() != 0:
        return metric_writers.MultiWriter([])
    drop_later_events(workdir, start_step)
    return metric_writers.MultiWriter(
        [
            metric_writers.SummaryWriter(str(workdir)),
            JsonLinesWriter(workdir / "metrics.jsonl", start_step),
        ]
    )
