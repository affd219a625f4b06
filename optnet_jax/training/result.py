"""``result.json``: one finished run, with all that a table of results needs."""

import datetime
import functools
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import optnet_jax
from optnet_jax.configuration import as_json, convert
from optnet_jax.errors import InputError
from optnet_jax.inspect.cost import count_parameters
from optnet_jax.runs import files
from optnet_jax.runs.devices import onednn_is_on
from optnet_jax.training.experiment import Experiment
from optnet_jax.training.leaves import tree_checksum
from optnet_jax.training.metrics import History
from optnet_jax.training.steps import TrainState

_EVALUATION = dict.fromkeys(("epoch", "loss", "top1_error", "top5_error"), float)
NEEDED = {
    "config": dict,
    "network": str,
    "dataset": str,
    "seed": int,
    "parameters": int,
    "epochs": float,
    "wall_seconds": float,
    "device": str,
    "final": _EVALUATION,
    "best": _EVALUATION,
    "date": str,
}
CONFIG = {"name": str, "seed": int, "model": dict, "data": dict, "schedule": dict}
OPTIONAL = {
    "images_per_second": float | None,
    "versions": dict,
    "commit": str | None,
    "config": CONFIG,
}
"""What the fields of ``result.json`` and ``config.json`` hold that are read again."""

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class DamagedResultError(InputError):
    """A ``result.json`` or ``config.json`` is not what a run writes."""


def make_result(
    experiment: Experiment,
    state: TrainState,
    history: History,
    images_per_second: float | None,
) -> dict[str, Any]:
    """Collect what a finished run produced.

    Returns:
        JSON-able; errors in percent, ``date`` in UTC, ``commit`` as :func:`commit` says
        it. ``checksum`` is of the final state: two runs with the same one agree bit for
        bit.
    """
    config, dataset = experiment.config, experiment.dataset
    return {
        "name": config.name,
        "config": as_json(config),
        "network": config.model.name,
        "dataset": dataset.name,
        "augment": config.data.augment,
        "split": dataset.split,
        "seed": config.seed,
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
        "commit": commit(),
    }


def read(folder: Path) -> dict[str, Any] | None:
    """Read what a finished run wrote; ``None`` if it is not finished.

    Raises:
        DamagedResultError: if the file is not what a run writes.
        InputError: if there is something else than a regular file.
    """
    file = folder / "result.json"
    try:
        result = files.read_object(file)
    except FileNotFoundError:
        return None
    except InputError:
        raise
    except ValueError as error:
        raise _damaged(file, error) from error
    check_fields(file, result, NEEDED, all_of_them=True)
    check_fields(file, result, OPTIONAL)
    return result


def check_fields(
    file: Path,
    content: Mapping[str, Any],
    kinds: Mapping[str, Any],
    *,
    all_of_them: bool = False,
) -> None:
    """Raise DamagedResultError for a field of another kind, and one that is lacking."""
    lacking = sorted(kinds.keys() - content.keys())
    if lacking and all_of_them:
        raise _damaged(file, f"it lacks {', '.join(lacking)}")
    for name, kind in kinds.items():
        if name in content:
            value, nested = content[name], isinstance(kind, dict)
            try:
                convert(value, dict if nested else kind, name)
            except InputError as error:
                raise _damaged(file, error) from error
            if nested:
                check_fields(file, value, kind, all_of_them=all_of_them)


def _damaged(file: Path, cause: object) -> DamagedResultError:
    return DamagedResultError(
        f"{file} is damaged ({cause}): the same command as of its run writes it anew"
    )


def describe_devices() -> str:
    """Say how many devices of what kind, such as ``8 x TPU v4`` or ``1 x cpu``."""
    devices = jax.devices()
    kind = devices[0].device_kind
    return f"{len(devices)} x {kind} ({jax.process_count()} process(es))"


def versions() -> dict[str, str]:
    """Versions of what numbers depend on; ``onednn``: whether a CPU convolves by it."""
    return {
        "python": platform.python_version(),
        "optnet_jax": optnet_jax.__version__,
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "onednn": "on" if onednn_is_on() else "off",
    }


@functools.cache
def commit() -> str | None:
    """Return the commit of the code, with ``-dirty`` if its files differ from that.

    It is that of the first call: the files may change while a process runs. ``None``
    where the package is not in a checkout of git, or git is not there.
    """
    root = Path(optnet_jax.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "--no-optional-locks", "-C", str(root), "describe", "--always"]
    command += ["--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
