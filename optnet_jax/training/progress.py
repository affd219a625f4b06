"""What a person sees of a run: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import TextIO

import jax
import tqdm


def say(text: str) -> None:
    """Print one line at once, on process 0 only."""
    if jax.process_index() == 0:
        print(text, flush=True)


class Progress:
    """Progress over the steps of a run.

    On a terminal a bar with images per second and the time that is left stays under the
    lines. Elsewhere (a log file, a cluster) the lines carry both themselves.

    Args:
        total_steps: Steps of the whole run.
        start_step: Step that the run goes on from.
        batch_size: Images per step.
        stream: Where to write; standard output by default.
    """

    # A log of a week-long run stays readable, and shows life every half minute.
    SECONDS_BETWEEN_LINES = 30.0

    def __init__(
        self,
        total_steps: int,
        start_step: int,
        batch_size: int,
        stream: TextIO | None = None,
    ):
        self._stream = stream or sys.stdout
        self._total = total_steps
        self._batch_size = batch_size
        self._shown = jax.process_index() == 0
        self._step = start_step
        self._busy_seconds = 0.0
        self._counted = 0
        self._resumed_at: float | None = None
        self._last_line = time.monotonic()
        self._bar = None
        if self._shown and self._stream.isatty():
            self._bar = tqdm.tqdm(
                total=total_steps * batch_size,
                initial=start_step * batch_size,
                unit="images",
                unit_scale=True,
                dynamic_ncols=True,
                file=self._stream,
            )

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def advance(self, step: int) -> None:
        """Note that ``step`` steps are done."""
        now = time.monotonic()
        if self._resumed_at is not None:
            self._busy_seconds += now - self._resumed_at
            self._counted += step - self._step
        # The first step compiles: it is not counted in the rate.
        self._resumed_at = now
        if self._bar is not None:
            self._bar.update((step - self._step) * self._batch_size)
        self._step = step

    def pause(self) -> None:
        """Leave out what follows (evaluation, saving) from the training rate."""
        self._resumed_at = None

    @property
    def images_per_second(self) -> float:
        """Training rate without compilation and evaluation; 0: not known yet."""
        if self._busy_seconds == 0:
            return 0.0
        return self._counted * self._batch_size / self._busy_seconds

    def due(self) -> bool:
        """Whether a line between two evaluations is welcome."""
        quiet = time.monotonic() - self._last_line
        return self._bar is None and quiet > self.SECONDS_BETWEEN_LINES

    def line(self, text: str) -> None:
        """Print a line above the bar; without a bar, add rate and time left."""
        self._last_line = time.monotonic()
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif self._shown:
            print(f"{text}{self._rate()}", file=self._stream, flush=True)

    def _rate(self) -> str:
        rate = self.images_per_second
        if rate == 0:
            return ""
        left = (self._total - self._step) * self._batch_size / rate
        return f"  {rate:,.0f} images/s  ETA {duration(left)}"


def duration(seconds: float) -> str:
    """Format seconds for a person.

    >>> duration(75), duration(3 * 3600 + 62)
    ('1:15', '3:01:02')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
