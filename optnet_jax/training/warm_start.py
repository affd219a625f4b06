"""Start a new run from the variables of another one, or a weight file: not a resume.

The step count, the momentum and the data order begin anew; only ``params`` and
``batch_stats`` are taken over.
"""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from optnet_jax.errors import InputError
from optnet_jax.training.checkpoint import Checkpoints, DamagedCheckpointError
from optnet_jax.training.leaves import Leaves, check_same_network, flatten, unflatten
from optnet_jax.training.state import TrainState

COLLECTIONS = ("params", "batch_stats")
WEIGHT_FILES = (".pth", ".pt", ".safetensors", ".npz")


def warm_start(
    state: TrainState,
    module: nn.Module,
    source: str,
    sharding: jax.sharding.Sharding,
) -> TrainState:
    """Replace the variables of a fresh state by those of a checkpoint.

    Args:
        state: The state at step 0.
        module: The network.
        source: ``DIR`` or ``DIR@STEP``: the workdir of another run and, unless its last
            sound checkpoint is meant, the step, or ``best``. Or a file of torchvision's
            weights, ``.pth``, ``.safetensors`` or ``.npz``.
        sharding: Where the variables go.

    Returns:
        The state with ``params``, ``batch_stats`` (and their average) replaced.

    Raises:
        InputError: if there is no such checkpoint or file, or if it is of another
            network.
    """
    fresh = {name: getattr(state, name) for name in COLLECTIONS}
    if Path(source).suffix in WEIGHT_FILES:
        from optnet_jax.networks import torchvision

        loaded = torchvision.load(module, source)
        variables = {name: loaded.get(name, {}) for name in COLLECTIONS}
        variables = jax.device_put(variables, sharding)
    else:
        variables = _from_checkpoint(fresh, source, sharding)
    average = state.average
    if average is not None:
        average = jax.tree.map(lambda leaf: leaf.copy(), variables)
    return state.replace(**variables, average=average)


def _from_checkpoint(
    fresh: dict[str, Any], source: str, sharding: jax.sharding.Sharding
) -> dict[str, Any]:
    path, _, which = source.partition("@")
    with Checkpoints(
        Path(path) / "checkpoints", sharding=sharding, read_only=True
    ) as checkpoints:
        _, leaves = read_variables(checkpoints, which or "last")
    check_same_network(leaves, flatten(fresh), source)
    return unflatten(fresh, leaves)


def read_variables(checkpoints: Checkpoints, which: str) -> tuple[int, Leaves]:
    """Read the variables to evaluate with from a run's checkpoints.

    Args:
        checkpoints: The checkpoints.
        which: ``last``, ``best`` (lowest top-1 error), or a step.

    Returns:
        The step, and the leaves of ``params`` and ``batch_stats``: of their average
        where the run kept one.

    Raises:
        InputError: if there is no such sound checkpoint.
    """
    steps = checkpoints.steps()
    if not steps:
        raise InputError(
            f"there is no checkpoint in {checkpoints.directory}: train first, or name "
            "the workdir of a run with --workdir"
        )
    try:
        if which == "best":
            _, history = checkpoints.read(steps[-1])
            best = history["best"]
            which = str(best["step"]) if best else "last"
        step = steps[-1] if which == "last" else _as_step(which, steps)
        leaves, _ = checkpoints.read(step)
    except DamagedCheckpointError as error:
        raise InputError(f"{error}: choose another step of {steps}") from error
    return step, _variables(leaves)


def _as_step(which: str, steps: list[int]) -> int:
    if not which.isdigit() or int(which) not in steps:
        raise InputError(
            f"there is no checkpoint {which!r}: use last, best, or a step of {steps}"
        )
    return int(which)


def _variables(leaves: Leaves) -> Leaves:
    averaged = any(name.startswith("average.") for name in leaves)
    prefix = "average." if averaged else ""
    wanted = tuple(f"{prefix}{name}." for name in COLLECTIONS)
    return {
        name.removeprefix(prefix): leaf
        for name, leaf in leaves.items()
        if name.startswith(wanted)
    }
