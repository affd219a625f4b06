"""What a person sees of a run: a bar on a terminal, plain lines elsewhere."""

import sys
import time

import jax
import tqdm

from optnet_jax.runs import distributed, program


def say(text: str) -> None:
    """Print one line at once, on process 0 only.

    It starts no device: in a group of processes that waits for all of them, of which
    one may be waiting for this one.
    """
    group = distributed.group()
    if group is None or group.index == 0:
        program.tell(text)


class Progress:
    """Progress over the steps of a run.

    The rate is that of completed steps: the clock runs from :meth:`resume` to
    :meth:`pause`, between which only training takes place, and both are called when the
    device has nothing left to do. On a terminal a bar stays under the lines; elsewhere
    the lines carry rate and time themselves.

    Args:
        total_steps: Steps of the whole run.
        start_step: Step that the run goes on from.
        batch_size: Images per step.
        eval_every: Steps between two evaluations; the last step has one besides.
    """

    # A log of a week-long run stays readable, and shows life every half minute.
    SECONDS_BETWEEN_LINES = 30.0

    def __init__(
        self,
        total_steps: int,
        start_step: int,
        batch_size: int,
        eval_every: int,
    ):
        self._total = total_steps
        self._batch_size = batch_size
        self._eval_every = eval_every
        self._eval_seconds: float | None = None
        self._step = start_step
        self._busy_seconds = 0.0
        self._counted = 0
        self._resumed: tuple[float, int] | None = None
        self._last_line = time.monotonic()
        self._bar = None
        if jax.process_index() == 0 and _is_terminal():
            self._bar = tqdm.tqdm(
                total=total_steps * batch_size,
                initial=start_step * batch_size,
                unit_scale=True,
                dynamic_ncols=True,
                # Its own rate would count compilation and evaluation.
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} images{postfix}",
                file=sys.stdout,
            )

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def resume(self) -> None:
        """Note that the device begins with the next step now."""
        self._resumed = time.monotonic(), self._step

    def advance(self, step: int, loss: float) -> None:
        """Note that ``step`` steps are completed, and the loss of the last one."""
        done, self._step = step - self._step, step
        if self._bar is not None:
            shown = ", ".join([f"loss {loss:.4f}", *self._rate()])
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update(done * self._batch_size)

    def pause(self) -> None:
        """Leave out what follows (evaluation, saving) from the training rate."""
        self._busy_seconds, self._counted = self._measured()
        self._resumed = None

    def evaluated(self, seconds: float) -> None:
        """Note how long an evaluation took, without compilation."""
        self._eval_seconds = seconds

    def _measured(self) -> tuple[float, int]:
        """Seconds of training, and the steps that were completed in them."""
        if self._resumed is None:
            return self._busy_seconds, self._counted
        since, step = self._resumed
        seconds = self._busy_seconds + time.monotonic() - since
        return seconds, self._counted + self._step - step

    @property
    def images_per_second(self) -> float | None:
        """Training rate without compilation and evaluation; None: not known yet."""
        seconds, steps = self._measured()
        return steps * self._batch_size / seconds if steps and seconds > 0 else None

    def due(self) -> bool:
        """Say whether a line between two evaluations is welcome."""
        quiet = time.monotonic() - self._last_line
        return self._bar is None and quiet > self.SECONDS_BETWEEN_LINES

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._last_line = time.monotonic()
        if self._bar is not None:
            with self._bar.external_write_mode():
                program.tell(text)
        else:
            say(text)

    def line(self, text: str) -> None:
        """Print a line above the bar; without a bar, add rate and time left."""
        shown = [] if self._bar is not None else self._rate()
        self.note("  ".join([text, *shown]))

    def _rate(self) -> list[str]:
        rate = self.images_per_second
        if rate is None:
            return []
        left = (self._total - self._step) * self._batch_size / rate
        evaluations = self._evaluations(self._total) - self._evaluations(self._step)
        unknown = " and evaluation" if evaluations and not self._eval_seconds else ""
        left += evaluations * (self._eval_seconds or 0.0)
        shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        return [f"{shown} images/s", f"ETA {duration(left)}{unknown}"]

    def _evaluations(self, step: int) -> int:
        """Return how many evaluations a run has made after ``step`` steps."""
        extra = step == self._total and step % self._eval_every > 0
        return step // self._eval_every + extra


def _is_terminal() -> bool:
    try:
        return sys.stdout is not None and sys.stdout.isatty()
    except ValueError:  # it is closed
        return False


def duration(seconds: float) -> str:
    """Format seconds for a person.

    >>> duration(75), duration(3 * 3600 + 62)
    ('1:15', '3:01:02')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
