"""The training loop: from a config and a workdir to ``result.json``."""

import contextlib
import functools
import time
from pathlib import Path
from typing import Any

from absl import logging

from optnet_jax import data
from optnet_jax.configuration import Config, TrainConfig, as_json, local_path
from optnet_jax.errors import InputError
from optnet_jax.inspect.cost import count_parameters
from optnet_jax.runs import devices, distributed, files, step_folders
from optnet_jax.runs.interruption import Interruption
from optnet_jax.runs.progress import say
from optnet_jax.training import agreement
from optnet_jax.training import experiment as experiment_lib
from optnet_jax.training import result as result_lib
from optnet_jax.training.checkpoint import Checkpoints
from optnet_jax.training.experiment import Experiment
from optnet_jax.training.metrics import History, describe
from optnet_jax.training.origin import Origin
from optnet_jax.training.run import Run
from optnet_jax.training.steps import TrainState
from optnet_jax.training.warm_start import locate, read_source, take_over
from optnet_jax.training.workdir import Workdir, named_write_errors, read_json


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
        kept = functools.partial(step_folders.newest, workdir / "checkpoints")
        stack.enter_context(named_write_errors(workdir, kept))
        claimed = stack.enter_context(Workdir(workdir, config))
        agreement.check_workdir(workdir)
        finished = None
        try:
            finished = result_lib.read(workdir)
        except result_lib.DamagedResultError as error:
            logging.warning("%s", error)  # it is written again
        if distributed.everywhere(bool(finished)) and finished:
            say(f"{workdir} is finished: {_describe(finished['final'])}")
            _say_changed_data(config.data, workdir)
            return finished
        result_lib.commit()  # asked now: the code may change while this runs
        if config.deterministic:
            devices.check_repeatable()
        experiment = experiment_lib.build(config)
        agreement.check_found(experiment)
        checkpoints = stack.enter_context(
            Checkpoints(
                claimed.checkpoints,
                keep=config.checkpoint.keep,
                sharding=experiment.state_sharding,
                origin=Origin(
                    as_json(config),
                    experiment.dataset.fingerprint,
                    experiment.dataset.treatment(),
                ),
            )
        )
        state, history = _start(experiment, checkpoints)
        # Only now is it known that what is there belongs to this config.
        claimed.write_config(experiment.dataset.description())
        step = int(state.step)
        run = stack.enter_context(
            Run(experiment, workdir, checkpoints, history, step, started)
        )
        # Until here a signal ends the program: there is nothing to save.
        interruption = stack.enter_context(Interruption())
        state = run.to_the_end(state, interruption)
        run.save(state)
        checkpoints.wait()
        rate = run.images_per_second
        result = result_lib.make_result(experiment, state, history, rate)
        claimed.write_result(result)
    best = history.best
    say(
        f"finished: {_describe(result['final'])}, best {best['top1_error']:.2f} % at "
        f"epoch {best['epoch']:g}; {result['parameters']:,} parameters"
    )
    return result


def _describe(evaluation: dict[str, Any]) -> str:
    return f"epoch {evaluation['epoch']:g}, {describe(evaluation)}"


def _say_changed_data(options: data.Options, workdir: Path) -> None:
    """Warn of files that are others than those that a finished run was trained on."""
    before = (read_json(workdir / "dataset.json") or {}).get("read_from")
    if not isinstance(before, dict):
        return  # nothing that can change
    try:
        if options.folder and not files.exists(options.folder):
            return  # gone: the run is finished without it
        now = data.spec_of(options).read_from()
        changed = any(before.get(name, state) != state for name, state in now.items())
        reason = "names, sizes or times of files differ" if changed else ""
    except InputError as error:
        reason = str(error)
    if reason:
        text = "%s was trained on other files than there are now (%s): train on these"
        logging.warning(f"{text} with another --workdir", workdir, reason)


def _start(
    experiment: Experiment, checkpoints: Checkpoints
) -> tuple[TrainState, History]:
    """Go on from the newest checkpoint, or draw (or warm-start) the parameters."""
    config = experiment.config
    say(f"{experiment.dataset.split}; tracing {config.model.name}")
    shapes = experiment.state_shapes()
    restored = checkpoints.restore_newest(shapes)
    if restored is not None:
        state, history = restored
        say(f"resuming from the checkpoint of step {int(state.step)}")
        return state, History.from_json(history)
    source, where = config.checkpoint.warm_start, experiment.state_sharding
    leaves = None
    if source:
        agreement.check_workdir(locate(source)[0])
        # Before anything is drawn: a source that does not fit is said at once.
        leaves = read_source(
            source, experiment.module, shapes, experiment.learned, where, config
        )
        agreement.check_variables(source, leaves)
        say(f"starting from the variables of {source}")
    name, devices = config.model.name, result_lib.describe_devices()
    say(
        f"{name}: {count_parameters(shapes.params):,} parameters, "
        f"{experiment.total_steps:,} steps of {experiment.dataset.batch_size} images, "
        f"{devices}; drawing the parameters"
    )
    state = experiment.init_state()
    if leaves is not None:
        state = take_over(state, leaves, where)
    return state, History()
