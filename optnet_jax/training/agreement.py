"""Say whether all processes of a run were told the same, before they compute together.

A difference would be worse than an error: other learning rates drift apart without a
word, and another batch size or directory makes a collective operation wait for ever.
"""

import hashlib
import itertools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from flax.traverse_util import flatten_dict

import optnet_jax
from optnet_jax.configuration import TrainConfig, as_json
from optnet_jax.errors import InputError
from optnet_jax.runs import distributed, files, program, step_folders
from optnet_jax.runs.distributed import Group
from optnet_jax.training.differences import differing
from optnet_jax.training.experiment import Experiment
from optnet_jax.training.leaves import Leaves, tree_checksum
from optnet_jax.training.origin import settings
from optnet_jax.training.result import versions

SHOWN = 3
"""Processes whose differences are named; a pod may have a thousand."""

SHOWN_SECONDS = 70.0
"""How long one host may not see what another has written: NFS keeps what it has read of
a folder for up to 60 s (``acdirmax``), and so does a mounted bucket."""

_rounds = itertools.count()


def check_told(mode: str, config: TrainConfig, workdir: str | Path) -> None:
    """Compare command lines, code, versions and devices; see :func:`compare`."""
    if distributed.group() is None:
        return
    fields = flatten_dict({"config": as_json(config)}, sep=".")
    for name in ("data_dir", "folder"):  # a host may have the data elsewhere
        fields.pop(f"config.data.{name}", None)
    compare(
        {
            "mode": mode,
            "workdir": str(Path(workdir).absolute()),
            **fields,
            **{f"version of {name}": value for name, value in versions().items()},
            **settings(),
            "code of optnet_jax": _code(),
            "devices": f"{jax.local_device_count()} x {jax.default_backend()}",
        }
    )


def _code() -> str:
    """Return a digest of the package's source files."""
    digest = hashlib.sha256()
    root = Path(optnet_jax.__file__).parent
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def check_workdir(workdir: str | Path) -> None:
    """Compare what every process sees in the workdir, which all must share.

    What process 0 has written may show on another host later: that is waited for.
    """
    processes = distributed.group()
    if processes is None:
        return
    key = f"optnet_jax/workdir/{next(_rounds)}"
    if processes.index == 0:
        processes.put(key, json.dumps(_seen(workdir)))
    first, started = json.loads(_wait(processes, key, 0)), time.monotonic()
    while (mine := _seen(workdir)) != first:
        if time.monotonic() - started > SHOWN_SECONDS:
            break
        time.sleep(0.5)
    compare(mine)


def _seen(workdir: str | Path) -> dict[str, Any]:
    lock, result = Path(workdir, ".lock"), Path(workdir, "result.json")
    return {
        f"owner of {workdir}": (
            lock.read_text("utf-8", "replace") if lock.is_file() else "nobody"
        ),
        "finished": files.exists(result),
        "checkpoints": step_folders.steps(Path(workdir, "checkpoints")),
    }


def check_found(experiment: Experiment) -> None:
    """Compare the data that every process has found, and what is made of them."""
    dataset = experiment.dataset
    found = f"{dataset.split} {dataset.fingerprint}"
    compare({"data": found, **dataset.treatment()})


def check_variables(source: object, leaves: Leaves, step: int | None = None) -> None:
    """Compare the variables that every process has read."""
    compare({f"step of {source}": step, f"checksum of {source}": tree_checksum(leaves)})


def compare(told: Mapping[str, Any], processes: Group | None = None) -> None:
    """Refuse to go on unless ``told`` is the same on every process.

    All processes call it equally often. The wait for one that is late is announced; one
    that is lost is noticed by its silence (``--heartbeat_timeout``).

    Args:
        told: Names and JSON-able values.
        processes: Those that compare; all that have joined by default.

    Raises:
        InputError: on every process alike, with the names and values that differ.
    """
    processes = processes or distributed.group()
    if processes is None:
        return
    prefix = f"optnet_jax/told/{next(_rounds)}"
    told = {**told, "num_processes": processes.count}
    mine = json.dumps(told, sort_keys=True, default=str)
    processes.put(f"{prefix}/{processes.index}", mine)
    if processes.index == 0:
        differences = []
        for index in range(1, processes.count):
            theirs = _wait(processes, f"{prefix}/{index}", index)
            names = ", ".join(
                f"{name} is {its}, not {ours}"
                for name, ours, its in differing(json.loads(mine), json.loads(theirs))
            )
            if names:
                differences.append(f"on process {index} {names} as on process 0")
        processes.put(f"{prefix}/verdict", json.dumps(differences))
    differences = json.loads(_wait(processes, f"{prefix}/verdict", 0))
    if differences:
        more = len(differences) - SHOWN
        raise InputError(
            "the processes were not told the same: "
            + "; ".join(differences[:SHOWN])
            + (f"; and {more} more processes" if more > 0 else "")
            + ": start all with the same flags, versions and data, in a workdir that "
            "all hosts see"
        )


def _wait(processes: Group, key: str, index: int) -> str:
    """Return what process ``index`` tells under ``key``, were it hours later."""
    started, pause, said = time.monotonic(), 0.02, False
    while (value := processes.get(key)) is None:
        if not said and time.monotonic() - started > distributed.QUIET_SECONDS:
            program.tell(
                f"process {processes.index} waits for process {index}, which has not "
                "come as far"
            )
            said = True
        time.sleep(pause)
        pause = min(2 * pause, 1.0)
    return value
