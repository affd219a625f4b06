"""One start of a run: what happens around its steps."""

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import jax

from optnet_jax.errors import InputError
from optnet_jax.runs import compilation
from optnet_jax.runs.interruption import Interruption
from optnet_jax.runs.progress import Progress
from optnet_jax.training import sharding, writers
from optnet_jax.training.checkpoint import Checkpoints
from optnet_jax.training.coefficients import learned_coefficients
from optnet_jax.training.evaluate import evaluate
from optnet_jax.training.experiment import Experiment
from optnet_jax.training.leaves import first_not_finite, flatten
from optnet_jax.training.metrics import History
from optnet_jax.training.schedule import steps_in_interval
from optnet_jax.training.steps import TrainState


class DivergedError(InputError):
    """The loss, the gradient, an evaluation or the state is not finite any more."""


class Compiled:
    """A jitted function, compiled apart from its first run.

    Args:
        function: As ``jax.jit`` returns it; called with one set of shapes only.
        name: What it is, for the line.
        tell: Takes the line.

    Attributes:
        seconds: How long it took to compile or to load; 0 before that.
    """

    def __init__(self, function: Any, name: str, tell: Callable[[str], None]):
        self.seconds = 0.0
        self._function = function
        self._name = name
        self._tell = tell
        self._program: Any = None

    def compile(self, *arguments: Any) -> None:
        """Compile for the shapes of ``arguments``, unless that is done."""
        if self._program is None:
            place = compilation.place()
            other = f", or loading it from {place}" if place else ""
            self._tell(f"compiling {self._name}{other}")
            started, hits = time.monotonic(), compilation.hits()
            self._program = self._function.lower(*arguments).compile()
            self.seconds = time.monotonic() - started
            done = "compiled" if compilation.hits() == hits else "loaded"
            self._tell(f"{done} {self._name} in {self.seconds:.1f} s")

    def __call__(self, *arguments: Any) -> Any:
        """Run the program."""
        self.compile(*arguments)
        return self._program(*arguments)


def _is_ready(sums: Any) -> bool:
    """Say whether metrics can be fetched without waiting."""
    # Of several processes each would find another answer, and one that stops for what
    # it fetched would leave the others in a step: they fetch at the same place always.
    return jax.process_count() == 1 and all(
        leaf.is_ready() for leaf in jax.tree.leaves(sums)
    )


class Run:
    """One start of a run, begun when ``time.monotonic`` said ``started``."""

    def __init__(
        self,
        experiment: Experiment,
        workdir: Path,
        checkpoints: Checkpoints,
        history: History,
        start_step: int,
        started: float,
    ):
        config, per_epoch = experiment.config, experiment.dataset.steps_per_epoch
        # The starts of a run together are one, begun as long ago as all of them took.
        self._started = started - history.wall_seconds
        self._experiment = experiment
        self._checkpoints = checkpoints
        self._history = history
        self._start_step = start_step
        self._total = experiment.total_steps
        self._per_epoch = per_epoch
        self._eval_every = steps_in_interval(config.eval.every_epochs, per_epoch)
        self._save_every = steps_in_interval(config.checkpoint.every_epochs, per_epoch)
        self._log_every = config.log.every_steps or per_epoch
        self._writer = writers.RunWriter(
            workdir, start_step, history.lines, bool(experiment.learned)
        )
        self._trace = contextlib.ExitStack()
        self._trace_folder = workdir / "profile"
        self._progress = Progress(
            self._total, start_step, experiment.dataset.batch_size, self._eval_every
        )
        tell = self._progress.note
        first = config.profile.start_step
        if config.profile.steps and not start_step <= first < self._total:
            tell(
                f"no profile is written: this start runs the steps from {start_step} "
                f"to {self._total - 1}; set --config.profile.start_step to one of them"
            )
        self._train_step = Compiled(
            experiment.compiled_train_step(), "the training step", tell
        )
        self._eval_step = Compiled(
            experiment.compiled_eval_step(), "the evaluation", tell
        )

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.close()
        self._trace.close()
        self._writer.close()

    @property
    def images_per_second(self) -> float | None:
        """Training rate of this start; None if that is not known."""
        return self._progress.images_per_second

    def to_the_end(self, state: TrainState, interruption: Interruption) -> TrainState:
        """Run the steps that are left.

        The metrics of a step are fetched when the next one has been dispatched, so that
        the device never waits for the host; or at once where they are there already, as
        on a CPU that runs a step in the thread that calls it.
        """
        experiment, profile = self._experiment, self._experiment.config.profile
        batches = experiment.dataset.train_batches(self._start_step)
        key = experiment.step_key
        events = (self._eval_every, self._save_every, self._log_every)
        pending = None
        for step in range(self._start_step, self._total):
            batch = sharding.put_batch(next(batches), experiment.mesh)
            if step == self._start_step:
                self._train_step.compile(state, batch, key)
                self._progress.resume()
            if profile.steps and step == profile.start_step:
                self._trace.enter_context(jax.profiler.trace(self._trace_folder))
            state, sums = self._train_step(state, batch, key)
            if profile.steps and step == profile.start_step + profile.steps - 1:
                # The step was only dispatched: without this the trace would miss it.
                jax.block_until_ready(sums)
                self._trace.close()
            if pending is not None:
                self._record(*pending)
            pending = step, sums
            done = step + 1
            stopping = interruption.requested(done)
            event = stopping or any(self._is_due(every, done) for every in events)
            if event or _is_ready(sums):
                self._record(*pending)
                pending = None
            if event:
                self._at_event(done, state)
            if stopping and done < self._total:
                self.save(state)
                self._checkpoints.wait()
                stop = interruption.stop()
                self._progress.note(
                    f"stopped by {stop.name} after step {done} of {self._total}, which "
                    "is saved: the same command resumes it"
                )
                raise stop
        return state

    def _is_due(self, every: int, done: int) -> bool:
        return done % every == 0 or done == self._total

    def _at_event(self, done: int, state: TrainState) -> None:
        """Write and measure what is due after ``done`` steps."""
        self._progress.pause()
        improved = False
        if self._is_due(self._log_every, done):
            self._log_train(done)
        if self._is_due(self._eval_every, done):
            improved = self._evaluate(done, state)
        keep_best = improved and self._experiment.config.checkpoint.keep_best
        if done % self._save_every == 0 or keep_best:
            self.save(state)
        self._progress.resume()

    def _record(self, step: int, sums: Any) -> None:
        """Fetch the metrics of one step; stop if they are not finite."""
        values = jax.device_get(sums)
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(values[name][0]):
                value = values[name][0] / values[name][1]
                self._diverged(step, name.replace("_", " "), value)
        self._history.add_train(values)
        loss = values["loss"][0] / values["loss"][1]
        self._progress.advance(step + 1, loss)
        if self._progress.due():
            epoch = (step + 1) / self._per_epoch
            self._progress.line(f"epoch {epoch:.2f}  step {step + 1}  loss {loss:.4f}")

    def _diverged(self, step: int, name: str, value: float) -> NoReturn:
        with contextlib.suppress(InputError):
            self._checkpoints.wait()
        good = self._checkpoints.last_saved
        kept = "no checkpoint yet" if good is None else f"last good checkpoint: {good}"
        rate = self._experiment.rate(step)
        decay = self._experiment.config.optimizer.weight_decay
        raise DivergedError(
            f"the {name} became {value} in step {step + 1} of "
            f"{self._total} (weight decay {decay:g}, learning rate {rate:g}, {kept}): "
            "lower --config.optimizer.learning_rate or --config.optimizer.weight_decay "
            "or set --config.schedule.warmup_epochs, with another --workdir"
        )

    def _log_train(self, done: int) -> None:
        means = self._history.take_train()
        scalars = {f"train/{name}": value for name, value in means.items()}
        scalars["learning_rate"] = self._experiment.rate(done - 1)
        scalars["epoch"] = done / self._per_epoch
        self._writer.write_scalars(done, scalars)
        if self.images_per_second:
            rate = {"images_per_second": self.images_per_second}
            self._writer.write_events(done, rate)

    def _evaluate(self, done: int, state: TrainState) -> bool:
        started, compiled = time.monotonic(), self._eval_step.seconds
        means = evaluate(self._eval_step, state.eval_variables, self._experiment)
        compiled = self._eval_step.seconds - compiled
        self._progress.evaluated(time.monotonic() - started - compiled)
        for name, value in means.items():
            if not math.isfinite(value):
                self._diverged(done - 1, f"test {name.replace('_', ' ')}", value)
        epoch = round(done / self._per_epoch, 4)
        improved = self._history.add_evaluation(done, epoch, means)
        scalars = {f"test/{name}": value for name, value in means.items()}
        self._writer.write_scalars(done, {**scalars, "epoch": epoch})
        learned = learned_coefficients(state.params, self._experiment.learned)
        self._writer.write_coefficients(done, epoch, learned)
        self._writer.flush()
        self._progress.line(
            f"epoch {epoch:g}/{self._total / self._per_epoch:g}  step {done}  "
            f"test loss {means['loss']:.4f}  top-1 error {means['top1_error']:.2f} %"
        )
        return improved

    def save(self, state: TrainState) -> None:
        """Save the state, if it is finite, together with the history as it is now."""
        broken = first_not_finite(flatten(state))
        if broken is not None:
            self._diverged(int(state.step) - 1, broken, math.nan)
        history = self._history
        history.wall_seconds = round(time.monotonic() - self._started, 3)
        # The checkpoint is going to count on these lines: they are on the disk first.
        self._writer.sync()
        history.lines = self._writer.lines
        keep_best = self._experiment.config.checkpoint.keep_best
        best_step = history.best_step if keep_best else None
        self._checkpoints.save(state, history.as_json(), best_step)
