"""Runs as the page shows them: finished or not, grouped where only the seed differs."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optnet_jax.errors import InputError
from optnet_jax.runs import json_lines
from optnet_jax.studies.cells import read_json
from optnet_jax.studies.report import results
from optnet_jax.training import coefficients, differences, result

METRICS, RESULT, CONFIG = "metrics.jsonl", "result.json", "config.json"


@dataclasses.dataclass(frozen=True, eq=False)
class ShownRun:
    """What a workdir holds of one run.

    Attributes:
        path: The workdir.
        config: Nested, as in ``config.json``.
        metrics: The lines of ``metrics.jsonl``.
        result: ``result.json``; ``None`` while the run is not finished.
        coefficients: ``epoch`` [n] and learned coefficients [n, ...] by path.
    """

    path: Path
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, float]]
    result: Mapping[str, Any] | None
    coefficients: Mapping[str, np.ndarray]

    @property
    def name(self) -> str:
        """Its config's name."""
        return self.config.get("name") or self.path.name

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.config.get("seed", 0)

    @property
    def epochs(self) -> float:
        """Epochs that are done."""
        return max((row.get("epoch", 0.0) for row in self.metrics), default=0.0)

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """One metric: epochs [n] and values [n]; empty where it was never written."""
        return json_lines.series(self.metrics, name)

    def error(self, which: str) -> float | None:
        """Top-1 error (%), ``final`` or ``best``: so far, if it is not finished."""
        if self.result is not None:
            return self.result[which]["top1_error"]
        values = self.series("test/top1_error")[1]
        if not values.size:
            return None
        return float(values[-1] if which == "final" else np.nanmin(values))


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        label: Name of the config without its seed.
        runs: By ascending seed.
        config: The first one's config by dotted names.
    """

    label: str
    runs: tuple[ShownRun, ...]
    config: Mapping[str, Any]


def find(directories: Iterable[Path]) -> list[ShownRun]:
    """Read every run in or under the directories.

    Raises:
        InputError: if a directory does not exist or holds no run, or a file is damaged.
    """
    found: dict[Path, ShownRun] = {}
    for directory in directories:
        if not directory.is_dir():
            raise InputError(f"there is no directory {directory}: give runs' workdirs")
        files = [*directory.rglob(METRICS), *directory.rglob(RESULT)]
        for path in sorted({file.resolve().parent for file in files}):
            if path not in found:
                found[path] = read(path)
        if not files:
            raise InputError(
                f"{directory} holds no run: neither {METRICS} nor {RESULT} is in it "
                "or below it"
            )
    return list(found.values())


def read(path: Path) -> ShownRun:
    """Read one workdir.

    Raises:
        InputError: if a file is damaged or is not of a training run.
    """
    found, file = result.read(path), path / CONFIG
    if file.exists():
        config = read_json(file, "run it again")
    elif found is not None:
        config = found["config"]
    else:
        raise InputError(f"{path} is no run of training: its {CONFIG} is missing")
    result.check_fields(file, config, result.CONFIG)
    learned = coefficients.read(path / "coefficients.npz")
    learned.pop("step", None)
    return ShownRun(path, config, json_lines.read(path / METRICS), found, learned)


def group(runs: Iterable[ShownRun]) -> list[Group]:
    """Put runs together whose configs differ in nothing but the seed.

    Labels that would be equal say in which fields their configs differ.
    """
    groups: dict[str, list[ShownRun]] = {}
    for run in runs:
        flat = differences.flatten(run.config)
        kept = {name: v for name, v in flat.items() if not is_ignored(name)}
        groups.setdefault(json.dumps(kept, sort_keys=True, default=str), []).append(run)
    members = [tuple(sorted(g, key=lambda run: run.seed)) for g in groups.values()]
    configs = [differences.flatten(runs[0].config) for runs in members]
    labels = [re.sub(r"-?seed=\d+", "", runs[0].name) for runs in members]
    differing = [name for name in differing_fields(configs) if not is_ignored(name)]
    taken = {label for label in labels if labels.count(label) > 1}
    for index, config in enumerate(configs):
        if labels[index] in taken:
            values = ", ".join(f"{f}={config.get(f, 'not set')}" for f in differing)
            labels[index] = f"{labels[index]} ({values})"
    return [Group(*parts) for parts in zip(labels, members, configs, strict=True)]


def is_ignored(field: str) -> bool:
    """Whether a field does not set runs apart: the seed, and what is written where."""
    return any(f"{field}.".startswith(f"{name}.") for name in results.IGNORED)


def differing_fields(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the fields that are not the same in all configs.

    >>> differing_fields([{"seed": 0, "depth": 40}, {"seed": 0, "depth": 52}])
    ['depth']
    """
    names = sorted({name for config in configs for name in config})
    return [
        name
        for name in names
        if any(config.get(name) != configs[0].get(name) for config in configs)
    ]
