"""A profile of a few training steps, on request."""

from pathlib import Path
from typing import Any

import jax

from optnet_jax.configuration.train import Profile


class ProfilerWindow:
    """Profiles steps ``start_step`` to ``start_step + steps - 1`` of a run.

    Args:
        config: ``config.profile``; 0 steps switch it off.
        directory: Where the trace goes, for TensorBoard's profile page or Perfetto.
    """

    def __init__(self, config: Profile, directory: Path):
        self._first = config.start_step
        self._last = config.start_step + config.steps - 1
        self._directory = directory
        self._running = False

    def before(self, step: int) -> None:
        """Start the trace if the window begins with ``step``."""
        if step == self._first and self._last >= self._first:
            jax.profiler.start_trace(str(self._directory))
            self._running = True

    def after(self, step: int, outputs: Any) -> None:
        """End the trace if the window ends with ``step``, whose outputs are given."""
        if self._running and step == self._last:
            # The step was only dispatched: without this the trace would miss it.
            jax.block_until_ready(outputs)
            self.close()

    def close(self) -> None:
        """End the trace if it is running."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
