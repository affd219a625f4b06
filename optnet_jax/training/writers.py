"""Where metrics go: TensorBoard events and ``metrics.jsonl``, through clu.

Importing this file costs seconds (clu brings TensorFlow): only the loop does, late.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optnet_jax.data import quiet

quiet.import_tensorflow()

# After TensorFlow is told to be quiet.
from clu import metric_writers  # noqa: E402

from optnet_jax.runs.json_lines import JsonLines  # noqa: E402
from optnet_jax.training.events import drop_later_events  # noqa: E402


class JsonLinesWriter(metric_writers.MetricWriter):
    """Scalars as one JSON object per line: ``{"step": 781, "train/loss": 1.2}``.

    Args:
        lines: The file.
    """

    def __init__(self, lines: JsonLines):
        self._lines = lines

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Append one line."""
        values = {name: float(np.asarray(value)) for name, value in scalars.items()}
        self._lines.append({"step": int(step), **values})

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
        self._lines.close()


class RunWriter(metric_writers.MultiWriter):
    """TensorBoard events and ``metrics.jsonl`` on process 0, nothing on the others.

    Args:
        workdir: The run's directory.
        start_step: Step that the run goes on from, 0 for a new run.
        expected: Lines of ``metrics.jsonl`` up to that step, by the checkpoint.

    Attributes:
        lines: Number of lines of ``metrics.jsonl``.
    """

    def __init__(self, workdir: Path, start_step: int, expected: int = 0):
        self.lines = 0
        self._json_lines: JsonLines | None = None
        self._events: metric_writers.MetricWriter = metric_writers.MultiWriter([])
        if jax.process_index() != 0:
            super().__init__([])
            return
        drop_later_events(workdir, start_step)
        self._json_lines = JsonLines(workdir / "metrics.jsonl", start_step, expected)
        self._events = metric_writers.SummaryWriter(str(workdir))
        self.lines = len(self._json_lines.rows)
        super().__init__([self._events, JsonLinesWriter(self._json_lines)])

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Write to both."""
        super().write_scalars(step, scalars)
        self.lines += 1

    def write_events(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Write scalars for TensorBoard only: what another start would not repeat."""
        self._events.write_scalars(step, scalars)

    def write_coefficients(
        self, step: int, coefficients: Mapping[str, np.ndarray]
    ) -> None:
        """Write learned coefficients for TensorBoard: their histogram and mean."""
        self.write_histograms(step, coefficients)
        means = {f"{name} (mean)": value.mean() for name, value in coefficients.items()}
        self.write_events(step, means)

    def sync(self) -> None:
        """Make ``metrics.jsonl`` safe from a power cut."""
        if self._json_lines is not None:
            self._json_lines.sync()
