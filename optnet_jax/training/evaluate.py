"""The whole evaluation split, exactly: padding is masked, means are taken once."""

import collections
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from optnet_jax.configuration import Config, TrainConfig, as_json, local_path
from optnet_jax.data.preprocessing import Preprocessing
from optnet_jax.errors import InputError, shown
from optnet_jax.runs import files
from optnet_jax.runs.progress import say
from optnet_jax.training import agreement, metrics, sharding
from optnet_jax.training import experiment as experiment_lib
from optnet_jax.training.differences import (
    FUNCTION_FIELDS,
    config_differences,
    differing,
    listed,
)
from optnet_jax.training.experiment import Experiment
from optnet_jax.training.leaves import check_same_network, flatten, unflatten
from optnet_jax.training.warm_start import read_variables
from optnet_jax.training.workdir import as_text, check_kinds, read_json

MAX_PENDING = 4


def evaluate(
    eval_step: Callable[..., Any], variables: Any, experiment: Experiment
) -> dict[str, float]:
    """Evaluate variables on every image of the evaluation split.

    Returns:
        ``loss``, ``top1_error`` and ``top5_error`` (percent).
    """
    totals: dict[str, tuple[float, float]] = {}
    pending = collections.deque()
    for batch in experiment.dataset.eval_batches():
        batch = sharding.put_batch(batch, experiment.mesh)
        pending.append(eval_step(variables, batch))
        # Fetched late, so that the device does not wait; but not all at the end, or
        # the batches of a large split would queue up in its memory.
        if len(pending) > MAX_PENDING:
            totals = metrics.add(totals, jax.device_get(pending.popleft()))
    for sums in pending:
        totals = metrics.add(totals, jax.device_get(sums))
    return metrics.divide(totals)


def evaluate_checkpoint(
    config: Config | TrainConfig, workdir: str | Path
) -> dict[str, Any]:
    """Evaluate the checkpoint ``config.eval.checkpoint``; write ``eval_<step>.json``.

    The images may be others than those of the run, such as another folder's: they are
    normalised with the mean and deviation that the network was trained with.

    Returns:
        ``step``, ``loss``, ``top1_error``, ``top5_error``, and ``split`` and
        ``fingerprint`` of what was evaluated.

    Raises:
        InputError: if there is no such checkpoint, if it is of another network, or of
            one with other options that no shape tells apart; or if the images are of
            other classes.
    """
    config = TrainConfig.of(config)
    agreement.check_told("eval", config, workdir)
    workdir = local_path(workdir, "workdir").absolute()
    check_kinds(workdir)
    agreement.check_workdir(workdir)
    where = sharding.replicated(sharding.data_mesh())
    step, leaves, trained = read_variables(workdir, config.eval.checkpoint, where)
    experiment = experiment_lib.build(config)
    agreement.check_found(experiment)
    _prepare_as_trained(workdir, experiment.dataset)
    variables = experiment.state_shapes().variables
    agreement.check_variables(workdir, leaves, step)
    directory = workdir / "checkpoints"
    _check_same_function(trained, config, directory / str(step))
    check_same_network(leaves, flatten(variables), directory / str(step))
    say(f"evaluating step {step} on {experiment.dataset.num_eval:,} images")
    means = evaluate(
        experiment.compiled_eval_step(), unflatten(variables, leaves), experiment
    )
    # Said before it is written: a workdir may be one that can only be read.
    split = experiment.dataset.split
    say(f"{directory}, step {step}, {split}: {metrics.describe(means)}")
    fingerprint = experiment.dataset.fingerprint
    found = {"step": step, **means, "split": split, "fingerprint": fingerprint}
    if jax.process_index() == 0:
        files.write_output(
            workdir / f"eval_{step}.json",
            as_text(found),
            "the result stands above; give write permission or evaluate a copy to keep "
            "it",
        )
    return found


def _prepare_as_trained(workdir: Path, dataset: Any) -> None:
    """Give a data set the preprocessing of the run's; refuse one of other classes."""
    # A run may have been copied without it, or be an older version's.
    trained = read_json(workdir / "dataset.json") or {}
    known, names = trained.get("class_names"), list(dataset.class_names)
    if known is not None and known != names:
        raise InputError(
            f"{workdir} was trained on the classes {shown(known)}, and what it is to "
            f"be evaluated on has {shown(names)}: give it images of the same classes"
        )
    if not {"mean", "std"} <= trained.keys():
        say(f"{workdir} does not say its mean and std: this set's own are taken")
        return
    own = dataclasses.asdict(dataset.preprocessing)
    try:
        dataset.preprocessing = Preprocessing.of(own | trained)
    except InputError as error:
        raise InputError(
            f"what {workdir} says of its data set is damaged ({error}): copy the "
            "workdir again"
        ) from error
    used = dataclasses.asdict(dataset.preprocessing)
    if others := [name for name, *_ in differing(own, used)]:
        say(f"{' and '.join(others)} are those of {workdir}, not this set's own")


def _check_same_function(
    trained: dict[str, Any] | None, config: TrainConfig, where: Path
) -> None:
    """Refuse options that make another function of the same variables."""
    if trained is None:
        say(f"{where} does not say with which config it was trained: not compared")
        return
    differences = config_differences(trained, as_json(config), only=FUNCTION_FIELDS)
    if differences:
        raise InputError(
            f"checkpoint {where} was trained with other options "
            f"({listed(differences)}): evaluate it with the config that it was "
            "trained with"
        )
