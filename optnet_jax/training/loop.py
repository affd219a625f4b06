"""The training loop: from a config and a workdir to ``result.json``."""

import contextlib
import errno
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
from absl import logging

from optnet_jax.configuration import Config, TrainConfig, as_json, local_path
from optnet_jax.errors import InputError
from optnet_jax.runs import step_folders
from optnet_jax.runs.interruption import Interruption
from optnet_jax.runs.progress import Progress, say
from optnet_jax.training import agreement, sharding
from optnet_jax.training import experiment as experiment_lib
from optnet_jax.training import result as result_lib
from optnet_jax.training.checkpoint import Checkpoints
from optnet_jax.training.coefficients import CoefficientLog, learned_coefficients
from optnet_jax.training.compiled import Compiled
from optnet_jax.training.evaluate import evaluate
from optnet_jax.training.experiment import Experiment
from optnet_jax.training.history import History
from optnet_jax.training.leaves import first_not_finite, flatten
from optnet_jax.training.origin import Origin
from optnet_jax.training.profile import ProfilerWindow
from optnet_jax.training.schedule import steps_in_interval
from optnet_jax.training.state import TrainState, count_parameters
from optnet_jax.training.warm_start import read_source, take_over
from optnet_jax.training.workdir import Workdir

# What a workdir that cannot be written raises: full, over quota, read-only, not ours.
WRITE_ERRORS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.ESTALE,
    }
)


class DivergedError(InputError):
    """The loss, the gradient, an evaluation or the state is not finite any more."""


def train(config: Config | TrainConfig, workdir: str | Path) -> dict[str, Any]:
    """Train a network, or go on with a run that was interrupted.

    The rest of an interrupted run is bit for bit what it would have been: the batch is
    a function of (seed, step), dropout of the step, and everything else is in the
    checkpoint.

    Args:
        config: The run's config, an ``ml_collections.ConfigDict`` or a dict;
            :class:`~optnet_jax.configuration.train.TrainConfig` has its fields.
        workdir: Directory of the run.

    Returns:
        The content of ``result.json``.

    Raises:
        InputError: if the config or the workdir cannot be used, if the loss stops being
            finite, or if a checkpoint cannot be written.
        Interrupted: after SIGTERM, Ctrl-C or a preemption notice, with the state saved.
    """
    started = time.monotonic()
    config = TrainConfig.of(config)
    workdir = local_path(workdir, "workdir").absolute()
    agreement.check_told("train", config, workdir)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_named_write_errors(workdir))
        place = stack.enter_context(Workdir(workdir, config))
        agreement.check_place(place.path)
        finished = _finished(place)
        if finished is not None:
            say(f"{place.path} is finished: {describe(finished['final'])}")
            return finished
        experiment = experiment_lib.build(config)
        agreement.check_found(experiment)
        checkpoints = stack.enter_context(
            Checkpoints(
                place.checkpoints,
                keep=config.checkpoint.keep,
                sharding=experiment.state_sharding,
                origin=Origin(as_json(config), experiment.dataset.fingerprint),
            )
        )
        state, history = _start(experiment, checkpoints)
        # Only now is it known that what is there belongs to this config.
        place.write_config(experiment.dataset.description())
        history_started = history.wall_seconds
        run = stack.enter_context(
            Run(experiment, place, checkpoints, history, int(state.step))
        )
        run.clock = lambda: history_started + time.monotonic() - started
        # Until here a signal ends the program: there is nothing to save.
        interruption = stack.enter_context(Interruption())
        state = run.to_the_end(state, interruption)
        run.save(state)
        checkpoints.wait()
        rate = run.images_per_second
        result = result_lib.make_result(experiment, state, history, rate)
        place.write_result(result)
    say(
        f"finished: {describe(result['final'])}, best {_percent(history.best)}; "
        f"{result['parameters']:,} parameters"
    )
    return result


def _finished(place: Workdir) -> dict[str, Any] | None:
    """The result of a finished run; one that is damaged is written again."""
    try:
        return result_lib.read(place.path)
    except result_lib.DamagedResultError as error:
        logging.warning("%s", error)
        return None


@contextlib.contextmanager
def _named_write_errors(path: Path) -> Iterator[None]:
    """Say in one line that a workdir cannot be written, wherever that shows."""
    try:
        yield
    except OSError as error:
        if error.errno not in WRITE_ERRORS:
            raise
        raise InputError(
            f"{path} could not be written ({error.strerror}), "
            f"{step_folders.describe_newest(path / 'checkpoints')}: make room or give "
            "write permission and run the same command again"
        ) from error


def describe(evaluation: dict[str, Any]) -> str:
    """One evaluation in words."""
    return (
        f"epoch {evaluation['epoch']:g}, test loss {evaluation['loss']:.4f}, "
        f"top-1 error {evaluation['top1_error']:.2f} %, "
        f"top-5 error {evaluation['top5_error']:.2f} %"
    )


def _percent(best: dict[str, Any]) -> str:
    return f"{best['top1_error']:.2f} % at epoch {best['epoch']:g}"


def _start(
    experiment: Experiment, checkpoints: Checkpoints
) -> tuple[TrainState, History]:
    """Go on from the newest checkpoint, or draw (or warm-start) the parameters."""
    say(experiment.dataset.split)
    config, shapes = experiment.config, experiment.state_shapes()
    restored = checkpoints.restore_newest(shapes)
    if restored is not None:
        state, history = restored
        say(f"going on from the checkpoint of step {int(state.step)}")
        return state, History.from_json(history)
    source, where = config.checkpoint.warm_start, experiment.state_sharding
    leaves = None
    if source:
        # Before anything is drawn: a source that does not fit is said at once.
        leaves = read_source(source, experiment.module, shapes, where, config)
        agreement.check_variables(source, leaves)
        say(f"starting from the variables of {source}")
    state = experiment.init_state()
    if leaves is not None:
        state = take_over(state, leaves, where)
    name, devices = config.model.name, result_lib.describe_devices()
    say(
        f"{name}: {count_parameters(state.params):,} parameters, "
        f"{experiment.total_steps:,} steps of {experiment.dataset.batch_size} images, "
        f"{devices}; compiling the first step"
    )
    return state, History()


def _is_ready(sums: Any) -> bool:
    """Whether metrics can be fetched without waiting.

    Of several processes each would find another answer, and one that stops for what it
    fetched would leave the others in a step: they fetch at the same place always.
    """
    return jax.process_count() == 1 and all(
        leaf.is_ready() for leaf in jax.tree.leaves(sums)
    )


class Run:
    """One start of a run: what happens around the steps.

    Args:
        experiment: What is run.
        place: Its workdir.
        checkpoints: Where its state is saved.
        history: Its bookkeeping, continued in place.
        start_step: Step that this start begins with.
    """

    def __init__(
        self,
        experiment: Experiment,
        place: Workdir,
        checkpoints: Checkpoints,
        history: History,
        start_step: int,
    ):
        # clu brings TensorFlow, seconds of import: only once a run really starts.
        from optnet_jax.training import writers

        config, per_epoch = experiment.config, experiment.dataset.steps_per_epoch
        self.clock: Callable[[], float] = lambda: history.wall_seconds
        self._experiment = experiment
        self._checkpoints = checkpoints
        self._history = history
        self._start_step = start_step
        self._total = experiment.total_steps
        self._per_epoch = per_epoch
        self._eval_every = steps_in_interval(
            "eval.every_epochs", config.eval.every_epochs, per_epoch
        )
        self._save_every = steps_in_interval(
            "checkpoint.every_epochs", config.checkpoint.every_epochs, per_epoch
        )
        self._log_every = config.log.every_steps or per_epoch
        file, found = place.path / "coefficients.npz", history.lines
        self._coefficients: CoefficientLog | None = None
        if experiment.learned and jax.process_index() == 0:
            expected = found.get("coefficients", 0)
            self._coefficients = CoefficientLog(file, start_step, expected)
        self._writer = writers.RunWriter(
            place.path, start_step, found.get("metrics", 0)
        )
        self._profiler = ProfilerWindow(config.profile, place.path / "profile")
        self._progress = Progress(
            self._total, start_step, experiment.dataset.batch_size, self._eval_every
        )
        tell = self._progress.note
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
        self._profiler.close()
        self._writer.close()
        if self._coefficients is not None:
            self._coefficients.close()

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
        experiment = self._experiment
        batches = experiment.dataset.train_batches(self._start_step)
        key = experiment.step_key
        pending = None
        for step in range(self._start_step, self._total):
            self._profiler.before(step)
            batch = sharding.put_batch(next(batches), experiment.mesh)
            if step == self._start_step:
                self._train_step.compile(state, batch, key)
                self._progress.resume()
            state, sums = self._train_step(state, batch, key)
            self._profiler.after(step, sums)
            if pending is not None:
                self._record(*pending)
            pending = step, sums
            done = step + 1
            stopping = interruption.requested(done)
            event = stopping or self._is_event(done)
            if event or _is_ready(sums):
                self._record(*pending)
                pending = None
            if event:
                self._at_event(done, state)
            if stopping and done < self._total:
                self._stop(done, state, interruption)
        return state

    def _is_event(self, done: int) -> bool:
        """Whether something is written or measured after ``done`` steps."""
        every = (self._eval_every, self._save_every, self._log_every)
        return done == self._total or any(done % n == 0 for n in every)

    def _at_event(self, done: int, state: TrainState) -> None:
        self._progress.pause()
        self._what_is_due(done, state)
        self._progress.resume()

    def _what_is_due(self, done: int, state: TrainState) -> None:
        improved = False
        if done % self._log_every == 0 or done == self._total:
            self._log_train(done)
        if done % self._eval_every == 0 or done == self._total:
            improved = self._evaluate(done, state)
        keep_best = improved and self._experiment.config.checkpoint.keep_best
        if done % self._save_every == 0 or keep_best:
            self.save(state)

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
        raise DivergedError(
            f"the {name} became {value} in step {step + 1} of "
            f"{self._total} (learning rate {rate:g}, {kept}): lower "
            "--config.optimizer.learning_rate or set --config.schedule.warmup_epochs, "
            "with another --workdir"
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
        if self._coefficients is not None:
            learned = self._experiment.learned
            coefficients = learned_coefficients(state.params, learned)
            self._coefficients.append(done, epoch, coefficients)
            self._writer.write_coefficients(done, coefficients)
        self._writer.flush()
        self._progress.line(
            f"epoch {epoch:g}/{self._total / self._per_epoch:g}  step {done}  "
            f"test loss {means['loss']:.4f}  top-1 error {means['top1_error']:.2f} %"
        )
        return improved

    def save(self, state: TrainState) -> None:
        """Save the state together with the history as it is now.

        Raises:
            DivergedError: if the state is not finite: the last good one stays the
                newest.
            InputError: if a checkpoint could not be written.
        """
        broken = first_not_finite(flatten(state))
        if broken is not None:
            self._diverged(int(state.step) - 1, broken, math.nan)
        self._history.wall_seconds = round(self.clock(), 3)
        self._sync()
        self._checkpoints.save(state, self._history.as_json(), self._history.best_step)

    def _sync(self) -> None:
        """What the checkpoint is going to count on is on the disk before it is."""
        self._writer.sync()
        self._history.lines = {"metrics": self._writer.lines}
        if self._coefficients is not None:
            self._coefficients.sync()
            self._history.lines["coefficients"] = self._coefficients.lines

    def _stop(self, done: int, state: TrainState, interruption: Interruption) -> None:
        self.save(state)
        self._checkpoints.wait()
        name = interruption.signal.name if interruption.signal else "a notice"
        self._progress.line(
            f"stopped by {name} after step {done} of {self._total}, which is saved: "
            "the same command goes on"
        )
        raise interruption.stop()
