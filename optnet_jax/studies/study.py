"""A study in a workdir: run once, reported as JSON, Markdown and pictures."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from optnet_jax.configuration import Config, as_json
from optnet_jax.errors import InputError
from optnet_jax.runs.files import write_output
from optnet_jax.runs.progress import say
from optnet_jax.studies.cells import finite, read_json
from optnet_jax.training.differences import config_differences, listed
from optnet_jax.training.result import describe_devices, versions
from optnet_jax.training.workdir import Workdir, write_json

Report = dict[str, Any]


def run_once(
    name: str,
    config: Config,
    workdir: str | Path,
    *,
    measure: Callable[[Path], Report],
    markdown: Callable[[Report], str],
    draw: Callable[[Report, Path], Iterable[Path]],
) -> Report:
    """Run a study in a workdir, or print the report that it has left there.

    Args:
      name: of the files: ``<name>.json``, written last, and ``<name>.md``.
      config: of the study.
      workdir: its directory.
      measure: does the work: the folder of the cells' files -> the report, JSON-able.
      markdown: writes the report.
      draw: the report and the folder ``plots`` -> the pictures.

    Returns:
      The report.

    Raises:
      InputError: a workdir that is not writable or belongs to another config.
    """
    own = identity(config)
    with Workdir(workdir, own) as claimed:
        folder = claimed.path
        refuse_another_config(name, folder, own)
        claimed.write_config()
        file = folder / f"{name}.json"
        if file.exists():
            report = read_json(file)
            say(markdown(report))
            say(f"finished before, in {folder}: --workdir=DIR starts another run")
            return report
        report = finite(measure(folder / "cells"))
        text = markdown(report)
        write_output(folder / f"{name}.md", text.encode(), "make room")
        pictures = ", ".join(map(str, draw(report, folder / "plots")))
        # Written last: it says that the study is finished.
        write_json(file, report)
        say(f"\n{text}")
        say(f"written: {folder}/{name}.md, {file}, {pictures}")
        return report


def provenance(config: Config) -> Report:
    """Return what every report says of its study: what was run, on what, and when.

    Args:
      config: of the study.

    Returns:
      JSON-able: ``name``, ``config``, ``device``, ``versions`` and ``finished``, now
      in UTC.
    """
    return {
        "name": config.name,
        "config": as_json(config),
        "device": describe_devices(),
        "versions": versions(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def identity(config: Any) -> dict[str, Any]:
    """The config without what changes no cell: how many at once, where the data is."""
    own = as_json(config)
    own.pop("parallel_cells", None)
    own.get("data", {}).pop("data_dir", None)
    return own


def refuse_another_config(name: str, folder: Path, fields: Mapping[str, Any]) -> None:
    """Refuse the workdir of a study with another config.

    A finished report says itself what it is of; ``config.json`` says it for cells.

    Args:
      name: of the study.
      folder: workdir of the study.
      fields: of :func:`identity`.

    Raises:
      InputError: naming what differs, or a file that is damaged.
    """
    report, told = folder / f"{name}.json", folder / "config.json"
    if report.exists():
        found = read_json(report).get("config")
    elif told.exists() and any(folder.glob("cells/*.json")):
        found = read_json(told)
    else:
        return
    if not isinstance(found, dict):
        raise InputError(
            f"{report} is damaged: delete it, and the same command makes it again"
        )
    differences = config_differences(identity(found), fields)
    if differences:
        raise InputError(
            f"{folder} belongs to a study with another config "
            f"({listed(differences)}): use that config or another --workdir"
        )
