"""What a set was prepared from: has it changed since?

TFDS prepares a set once and never looks again at the archives and folders that it came
from. Their names and sizes are kept beside the set, and compared where they still lie.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging

from optnet_jax.runs import files

FILE = "origins.json"


def state(paths: Mapping[str, Path]) -> dict[str, Any]:
    """Say what archives and folders hold, those that are there.

    Args:
        paths: the archives and folders, by any names.

    Returns:
        By the same names: how many files, and a digest of their names and sizes.
    """
    return {name: _digest(path) for name, path in paths.items() if os.path.exists(path)}


def _digest(path: Path) -> list:
    if path.is_file():
        sizes = [("", path.stat().st_size)]
    else:
        # Nothing hidden, which file browsers leave behind; a link may lead nowhere.
        sizes = sorted(
            (os.path.relpath(file, path), file.stat().st_size if file.exists() else 0)
            for file in files.visible(path)
        )
    return [len(sizes), hashlib.sha256(json.dumps(sizes).encode()).hexdigest()]


def write(folder: Path, prepared_from: dict[str, Any]) -> None:
    """Keep a :func:`state` in the folder of a set that was prepared from it.

    Raises:
        InputError: if it cannot be written.
    """
    if prepared_from:
        content = json.dumps(prepared_from).encode()
        cure = "make room and start again; the set itself is prepared"
        files.write_output(folder / FILE, content, cure)


def say_changes(folder: Path, paths: Mapping[str, Path]) -> None:
    """Warn of archives and folders that a prepared set no longer agrees with."""
    try:
        before = files.read_object(folder / FILE)
    except FileNotFoundError:
        return  # prepared from nothing that can change, or without this package
    except ValueError as error:
        logging.warning("%s is damaged (%s): delete it", folder / FILE, error)
        return
    for name, now in state(paths).items():
        if name in before and now != before[name]:
            logging.warning(
                "%s has changed since a set was prepared from it: delete %s to prepare "
                "it again",
                os.path.realpath(paths[name]),  # `prepare` links archives
                folder,
            )
