"""Start a new run from the variables of another one, or a weight file: not a resume.

The step count, the momentum and the data order begin anew; only ``params`` and
``batch_stats`` are taken over. What a source may lack are learned coefficients: AGD-Net
starts from DenseNet's weights, and its α from their own start. And it may be of another
number of classes: the layer of logits, which every network here calls ``head``, is
drawn anew then.
"""

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from optnet_jax.configuration import TrainConfig, as_json
from optnet_jax.errors import InputError
from optnet_jax.runs import files
from optnet_jax.runs.progress import say
from optnet_jax.training.checkpoint import Checkpoints, DamagedCheckpointError
from optnet_jax.training.differences import FUNCTION_FIELDS, config_differences, listed
from optnet_jax.training.leaves import Leaves, check_same_network, flatten, unflatten
from optnet_jax.training.steps import TrainState
from optnet_jax.training.workdir import read_json
from optnet_jax.weights import state_dict, torchvision
from optnet_jax.weights.torchvision_names import HEAD_BIASES, is_coefficient

_SHOWN = 3


def read_source(
    source: str,
    module: nn.Module,
    shapes: TrainState,
    learned: Collection[str],
    sharding: jax.sharding.Sharding,
    config: TrainConfig | None = None,
) -> Leaves:
    """Read the variables that a run starts from.

    It is said which coefficients the source lacks, if its layer of logits is of another
    number of classes, and in what its config differs where no shape tells: a workdir's,
    or that of the card beside a network that was exported.

    Args:
        source: ``DIR`` or ``DIR@STEP``: the workdir of another run and, unless its last
            checkpoint is meant, the step, or ``best``. Or a file of weights, with
            torchvision's names or those of the network's variables. A path that is
            there is taken as it is, with any ``@`` in it.
        module: The network.
        shapes: Its state, or the shapes of it.
        learned: The paths in ``params`` of the coefficients that it learns.
        sharding: Where the leaves of a checkpoint go.
        config: The config of the run that begins.

    Returns:
        Leaves of ``params`` and ``batch_stats`` by name, without ``params.head`` where
        that is of another number of classes only.

    Raises:
        InputError: if there is no such checkpoint or file, if it is damaged, or if it
            is of another network.
    """
    path, which = locate(source)
    trained: Any = None
    if files.is_folder(path):
        _, leaves, trained = read_variables(path, which or "last", sharding)
    elif which:
        raise InputError(
            f"there is no workdir {path} to take {which!r} from, nor a path {source}"
        )
    elif not os.path.lexists(path):
        raise InputError(f"there is no workdir or weight file {path}")
    else:
        leaves = _from_file(path, module)
        if path.suffix == ".safetensors":
            # The card tells alone: one that is a link, or damaged, refuses no start.
            card = Path(os.path.realpath(path.with_suffix(".json")))
            with contextlib.suppress(InputError):
                trained = (read_json(card) or {}).get("config")
    if config is not None and isinstance(trained, Mapping):
        now = as_json(config)
        if found := config_differences(trained, now, only=FUNCTION_FIELDS):
            say(f"{path} was trained with other options: {listed(found)}")
    expected = flatten(shapes.variables)
    missing = [name for name in expected if name not in leaves]
    fresh = [name for name in missing if is_coefficient(name, learned)]
    head = _head_of_other_classes(leaves, expected)
    kept = {name: leaf for name, leaf in leaves.items() if name not in head}
    check_same_network(
        kept,
        {n: leaf for n, leaf in expected.items() if n not in (*fresh, *head)},
        source,
        cure="give config.model the fields that it was made with",
    )
    for name in head[:1]:
        there, here = leaves[name].shape, expected[name].shape
        say(
            f"{source} is of another number of classes, {name} has shape {there} there "
            f"and {here} here: the layer of logits is drawn anew"
        )
    if fresh:
        more = f" and {len(fresh) - _SHOWN} more" if len(fresh) > _SHOWN else ""
        say(
            f"{source} has no coefficients {', '.join(fresh[:_SHOWN])}{more}: they "
            "start as the network's fields say"
        )
    return kept


def _head_of_other_classes(leaves: Leaves, expected: Leaves) -> list[str]:
    """Name the leaves of ``params.head`` if they differ in the number of classes."""
    head = [n for n in expected if n.startswith("params.head.") and n in leaves]
    shapes = [(leaves[n].shape, expected[n].shape) for n in head]
    classes = {(there[-1:], here[-1:]) for there, here in shapes}
    other = all(there != here and there[:-1] == here[:-1] for there, here in shapes)
    return head if other and len(classes) == 1 else []


def take_over(
    state: TrainState, leaves: Mapping[str, Any], sharding: jax.sharding.Sharding
) -> TrainState:
    """Replace variables of a fresh state, and their average."""
    found = jax.device_put(dict(leaves), sharding)
    variables = unflatten(state.variables, flatten(state.variables) | found)
    average = state.average
    if average is not None:
        average = jax.tree.map(lambda leaf: leaf.copy(), variables)
    return state.replace(**variables, average=average)


def locate(source: str) -> tuple[Path, str]:
    """Split ``PATH@WHICH``, unless all of it is a path that is there."""
    path, at, which = source.rpartition("@")
    if not at or os.path.lexists(source):
        return Path(source), ""
    return Path(path), which


def _from_file(path: Path, module: nn.Module) -> Leaves:
    state = state_dict.read_state_dict(path)
    if state_dict.has_own_names(state):
        return {
            name: state_dict.checked_weight(name, array)
            for name, array in state.items()
        }
    # A layer of logits for other classes fits the network with that many.
    biases = [a for name, a in state.items() if name.endswith(HEAD_BIASES)]
    if biases and hasattr(module, "num_classes"):
        module = module.clone(num_classes=np.size(biases[0]))
    return flatten(
        torchvision.import_state_dict(module, state, with_coefficients=False)
    )


def read_variables(
    workdir: Path, which: str, sharding: jax.sharding.Sharding
) -> tuple[int, Leaves, dict[str, Any] | None]:
    """Read the variables to evaluate with from a checkpoint of a run.

    Args:
        workdir: Of the run.
        which: ``last``, ``best`` (lowest top-1 error), or a step.
        sharding: Where the arrays go.

    Returns:
        The step; the leaves of ``params`` and ``batch_stats``, of their average where
        the run kept one; and the config that they were trained with, if that is known.

    Raises:
        InputError: if there is no such sound checkpoint.
    """
    directory = workdir / "checkpoints"
    with Checkpoints(directory, sharding=sharding, read_only=True) as checkpoints:
        steps = checkpoints.steps()
        if not steps:
            raise InputError(
                f"there is no checkpoint in {directory}: train first, or name the "
                "workdir of a run that has one"
            )
        try:
            if which == "best":
                which = _best_step(checkpoints, steps)
            known = {str(step): step for step in steps} | {"last": steps[-1]}
            step = known.get(which.lstrip("0"))
            if step is None:
                raise InputError(
                    f"there is no checkpoint {which!r}: use last, best, or a step of "
                    f"{steps}"
                )
            leaves, meta = checkpoints.read(step)
        except DamagedCheckpointError as error:
            if error.step not in checkpoints.steps():
                raise InputError(
                    f"the checkpoint of step {error.step} in {directory} was deleted "
                    "while it was read, as a run deletes older ones: read it again"
                ) from error
            others = [step for step in steps if step != error.step]
            cure = (
                f"choose another step of {others}" if others else "copy the run again"
            )
            raise InputError(f"{error}: {cure}") from error
    trained = meta.origin.config if meta.origin else read_json(workdir / "config.json")
    averaged = any(name.startswith("average.") for name in leaves)
    prefix = "average." if averaged else ""
    wanted = (f"{prefix}params.", f"{prefix}batch_stats.")
    variables = {
        name.removeprefix(prefix): leaf
        for name, leaf in leaves.items()
        if name.startswith(wanted)
    }
    return step, variables, trained


def _best_step(checkpoints: Checkpoints, steps: list[int]) -> str:
    """Return the best step by the newest history; ``last`` before any evaluation."""
    best = checkpoints.read_meta(steps[-1]).history.get("best")
    if not best:
        say(f"no evaluation is recorded in {checkpoints.directory}: last for best")
        return "last"
    if best.get("step") not in steps:
        raise InputError(
            f"the best step, {best.get('step')}, has no checkpoint in "
            f"{checkpoints.directory} any more: use last, or a step of {steps}"
        )
    return str(best["step"])
