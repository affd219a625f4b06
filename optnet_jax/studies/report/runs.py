"""Training runs, read from their workdirs, and which of them are alike."""

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from optnet_jax.configuration import TrainConfig
from optnet_jax.errors import InputError
from optnet_jax.runs import files, json_lines
from optnet_jax.studies.cells import read_json
from optnet_jax.training import coefficients, result, workdir
from optnet_jax.training.differences import NOT_SET, within

# What sets no runs apart but their seeds: where and how often something is written.
IGNORED = ("name", "seed", *TrainConfig.free)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What a workdir holds of one run.

    Attributes:
        path: The workdir.
        config: What it was, or is, run with.
        result: ``result.json``; empty while the run is not finished.
    """

    path: Path
    config: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its config's name."""
        return self.config.get("name") or self.path.name

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.config.get("seed", 0)

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        """Its config by dotted names, and ``data.images``: a digest of its images.

        That is the same wherever they lie. Where it is not known their folder counts.
        """
        flat = flatten_dict(self.config, sep=".")
        described = workdir.read_json(self.path / "dataset.json") or {}
        digest = str(described.get("fingerprint") or "")[:12]
        images = digest or flat.get("data.folder")
        return {**flat, "data.images": images} if images else flat

    @functools.cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        return json_lines.read(self.path / "metrics.jsonl")

    @functools.cached_property
    def _learned(self) -> dict[str, np.ndarray]:
        return coefficients.read(self.path)

    @property
    def recorded(self) -> np.ndarray:
        """The epochs [n] at which coefficients were recorded."""
        return self._learned.get("epoch", np.empty(0))

    @property
    def coefficients(self) -> dict[str, np.ndarray]:
        """Learned coefficients [n, number] by path, if there are any."""
        return {
            name: values.astype(float).reshape(len(values), -1)
            for name, values in self._learned.items()
            if name not in ("step", "epoch") and len(values)
        }

    @property
    def epochs(self) -> float:
        """Epochs that are done."""
        return float(self.series("epoch")[0].max(initial=0.0))

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return one metric: epochs [n] and values [n]; empty if never written."""
        return json_lines.series(self.metrics, name)

    def error(self, which: str) -> float | None:
        """Top-1 error (%), ``final`` or ``best``: so far, if it is not finished."""
        if self.result:
            return self.result[which]["top1_error"]
        values = self.series("test/top1_error")[1]
        if not values.size:
            return None
        return float(values[-1] if which == "final" else np.nanmin(values))


def find(directories: Iterable[Path]) -> list[Run]:
    """Read every run in or under the directories, each once.

    Raises:
        InputError: if a directory does not exist or holds no run, or a file is damaged.
    """
    names = "result.json", "metrics.jsonl"
    folders: dict[Path, None] = {}
    for directory in directories:
        if not files.is_folder(directory):
            raise InputError(f"there is no directory {directory}: give runs' workdirs")
        found = [file for name in names for file in directory.rglob(name)]
        if not found:
            raise InputError(
                f"{directory} holds no run: neither {' nor '.join(names)} is in it or "
                "below it"
            )
        folders |= dict.fromkeys(sorted(file.resolve().parent for file in found))
    return [read(folder) for folder in folders]


def read(folder: Path) -> Run:
    """Read one workdir.

    Raises:
        InputError: if a file is damaged, or there is no run.
    """
    found, file = result.read(folder), folder / "config.json"
    if found is not None:
        return Run(folder, found["config"], found)
    if not files.exists(file):
        raise InputError(f"{folder} is no run of training: {file} is missing")
    config = read_json(file, "run it again")
    result.check_fields(file, config, result.CONFIG)
    return Run(folder, config, {})


def differing_fields(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the fields that set configs, by dotted names, apart.

    >>> differing_fields([{"seed": 0, "depth": 40}, {"seed": 1, "depth": 52}])
    ['depth']
    """
    names = sorted({name for config in configs for name in config})
    return [
        name
        for name in names
        if any(config.get(name) != configs[0].get(name) for config in configs)
        and not within(name, IGNORED)
    ]


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        label: Name of the config without its seed.
        runs: By ascending seed, one of each.
        config: The first one's config by dotted names, see :attr:`Run.fields`.
        repeats: What is left out, copies as a rule: each with the run of its seed.
    """

    label: str
    runs: Sequence[Run]
    config: Mapping[str, Any]
    repeats: Sequence[tuple[Run, Run]]


def group(runs: Iterable[Run]) -> list[Group]:
    """Put runs together whose configs and images differ in nothing but the seed.

    A seed counts once: of several runs of it that which is finished, or the furthest.
    Labels that would be equal say in which fields their configs differ.
    """
    alike: dict[str, list[Run]] = {}
    for run in runs:
        fields = run.fields.items()
        kept = {name: value for name, value in fields if not within(name, IGNORED)}
        alike.setdefault(json.dumps(kept, sort_keys=True, default=str), []).append(run)
    members, repeats = [], []
    for found in alike.values():
        found.sort(key=lambda run: (run.seed, not run.result, -run.epochs))
        first: dict[int, Run] = {}
        for run in found:
            first.setdefault(run.seed, run)
        members.append(list(first.values()))
        pairs = [(run, first[run.seed]) for run in found]
        repeats.append([(run, kept) for run, kept in pairs if run is not kept])
    configs = [found[0].fields for found in members]
    names = [re.sub(r"-?seed=\d+", "", found[0].name) for found in members]
    fields = differing_fields(configs)
    labels = [
        name
        if names.count(name) == 1
        else f"{name} ({', '.join(f'{f}={c.get(f, NOT_SET)}' for f in fields)})"
        for name, c in zip(names, configs, strict=True)
    ]
    parts = zip(labels, members, configs, repeats, strict=True)
    return [Group(*part) for part in parts]
