"""The whole evaluation split, exactly: padding is masked, means are taken once."""

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from optnet_jax.configuration import Config, TrainConfig, as_json, local_path
from optnet_jax.errors import InputError, shown
from optnet_jax.runs import files
from optnet_jax.runs.progress import say
from optnet_jax.training import agreement, metrics, sharding
from optnet_jax.training import experiment as experiment_lib
from optnet_jax.training.differences import FUNCTION_FIELDS, config_differences, listed
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

    Returns:
        ``step``, ``loss``, ``top1_error``, ``top5_error`` and ``split``.

    Raises:
        InputError: if there is no such checkpoint, if it is of another network, or of
            one with other options that no shape tells apart.
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
    _check_same_classes(workdir, experiment)
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
    found = {"step": step, **means, "split": split}
    if jax.process_index() == 0:
        files.write_output(
            workdir / f"eval_{step}.json",
            as_text(found),
            "the result stands above; give write permission or evaluate a copy to keep "
            "it",
        )
    return found


def _check_same_classes(workdir: Path, experiment: Experiment) -> None:
    """Refuse images whose labels mean something else than those of the training."""
    # A run may have been copied without it, or be an older version's.
    trained = (read_json(workdir / "dataset.json") or {}).get("class_names")
    names = list(experiment.dataset.class_names)
    if trained is not None and trained != names:
        raise InputError(
            f"{workdir} was trained on the classes {shown(trained)}, and what it is to "
            f"be evaluated on has {shown(names)}: give it images of the same classes"
        )


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
