"""``result.json``: one finished run, with all that a table of results needs."""

import datetime
import importlib.metadata
import platform
from typing import Any

import jax
from absl import logging

import optnet_jax
from optnet_jax.configuration import as_json
from optnet_jax.runs.json_lines import is_number
from optnet_jax.training.experiment import Experiment
from optnet_jax.training.history import History
from optnet_jax.training.leaves import tree_checksum
from optnet_jax.training.state import TrainState, count_parameters
from optnet_jax.training.workdir import Workdir

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def make_result(
    experiment: Experiment,
    state: TrainState,
    history: History,
    images_per_second: float | None,
) -> dict[str, Any]:
    """Collect what a finished run produced.

    Args:
        experiment: What was run.
        state: Its final state.
        history: Its evaluations.
        images_per_second: Training rate, without compilation and evaluation; None: not
            known.

    Returns:
        JSON-able; errors in percent, ``date`` in UTC. ``checksum`` is of the final
        state: two runs with the same one agree bit for bit.
    """
    dataset = experiment.dataset
    return {
        "name": experiment.config.name,
        "config": as_json(experiment.config),
        "network": experiment.config.model.name,
        "dataset": dataset.name,
        "augment": bool(experiment.config.data.augment),
        "split": dataset.split,
        "seed": experiment.config.seed,
        "parameters": count_parameters(state.params),
        "steps": int(state.step),
        "epochs": round(int(state.step) / dataset.steps_per_epoch, 4),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "wall_seconds": round(history.wall_seconds, 2),
        "images_per_second": images_per_second and round(images_per_second, 1),
        "device": describe_devices(),
        "final": history.last,
        "best": history.best,
        "checksum": tree_checksum(state),
        "versions": versions(),
    }


def read(place: Workdir) -> dict[str, Any] | None:
    """What a finished run wrote; ``None`` if it is not finished.

    One that lacks its evaluations is damaged, which is said: it is written again from
    the last checkpoint.
    """
    result = place.result()
    if result is None or all(_is_evaluation(result.get(n)) for n in ("final", "best")):
        return result
    logging.warning(
        "%s is damaged (it lacks the evaluations of a run): it counts as missing",
        place.path / "result.json",
    )
    return None


def _is_evaluation(value: Any) -> bool:
    names = ("epoch", "loss", "top1_error", "top5_error")
    return isinstance(value, dict) and all(is_number(value.get(n)) for n in names)


def describe_devices() -> str:
    """Number and kind of the devices, such as ``8 x TPU v4`` or ``1 x cpu``."""
    devices = jax.devices()
    kind = devices[0].device_kind
    return f"{len(devices)} x {kind} ({jax.process_count()} process(es))"


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of those that the numbers depend on."""
    return {
        "python": platform.python_version(),
        "optnet_jax": optnet_jax.__version__,
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }
