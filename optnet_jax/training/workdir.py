"""The directory of one run: who owns it, what config it belongs to, what is done."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from optnet_jax import files
from optnet_jax.configuration import Block, Config, as_json, local_path
from optnet_jax.errors import InputError
from optnet_jax.training.differences import config_differences


class Workdir:
    """A run's directory, claimed by one program at a time.

    Use it as a context: entering makes the directory, locks it, and compares the config
    with the one of an earlier start.

    Args:
        path: The directory.
        config: The run's config.
    """

    def __init__(self, path: str | Path, config: Config | Block):
        self.path = local_path(path, "workdir").absolute()
        self._config = config
        self._lock: TextIO | None = None

    def __enter__(self) -> "Workdir":
        problem = ""
        if jax.process_index() == 0:
            try:
                self._claim()
            except InputError as error:
                problem = str(error)
        if jax.process_count() > 1:
            # Only process 0 looks; the others must not go on alone if it stops.
            refused = multihost_utils.broadcast_one_to_all(np.int32(bool(problem)))
            problem = problem or ("process 0 refused the workdir" if refused else "")
        if problem:
            self._release()
            raise InputError(problem)
        return self

    def __exit__(self, *exception: object) -> None:
        self._release()

    def _claim(self) -> None:
        make_writable(self.path)
        self._lock = open(self.path / ".lock", "a+", encoding="utf-8")  # noqa: SIM115
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            owner = self._lock.read().strip() or "another process"
            raise InputError(
                f"{self.path} is in use by {owner}: wait for it, stop it, or choose "
                "another --workdir"
            ) from error
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {os.uname().nodename}")
        self._lock.flush()
        self._check_config()

    def _check_config(self) -> None:
        stored = self.stored_config() if self._has_results() else None
        if stored is None:
            return
        differences = config_differences(stored, as_json(self._config))
        if differences:
            raise InputError(
                f"{self.path} belongs to a run with another config "
                f"({'; '.join(differences)}): use that config or another --workdir"
            )

    def stored_config(self) -> dict[str, Any] | None:
        """The content of ``config.json``; ``None`` where it is lost or damaged."""
        file = self.path / "config.json"
        try:
            stored = json.loads(files.read_regular(file))
            if not isinstance(stored, dict):
                raise ValueError("it is no JSON object")
        except FileNotFoundError:
            return None
        except InputError:
            raise
        except ValueError as error:
            # The checkpoint says as well what it belongs to, and is asked next.
            logging.warning("%s is damaged (%s): it is written anew", file, error)
            return None
        return stored

    def _has_results(self) -> bool:
        """Whether an earlier start left something that belongs to its config."""
        saved = self.checkpoints.is_dir() and any(
            entry.name.isdigit() for entry in self.checkpoints.iterdir()
        )
        return saved or (self.path / "result.json").exists()

    def write_config(self) -> None:
        """Write ``config.json`` (on process 0), once the config is known to work."""
        if jax.process_index() == 0:
            write_json(self.path / "config.json", as_json(self._config))

    def _release(self) -> None:
        if self._lock is not None:
            # The kernel drops the lock with the file, also when the process is killed.
            self._lock.close()
            self._lock = None

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.path / "checkpoints"

    def result(self) -> dict[str, Any] | None:
        """What an earlier, finished run wrote; ``None`` if it is not finished."""
        file = self.path / "result.json"
        return json.loads(file.read_text("utf-8")) if file.exists() else None

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Mark the run as finished (on process 0)."""
        if jax.process_index() == 0:
            write_json(self.path / "result.json", result)


def make_writable(path: Path) -> None:
    """Make a directory and check that files can be written into it.

    Raises:
        InputError: if not.
    """
    try:
        files.make_folder(path)
        probe = path / f".writable.{os.getpid()}"
        probe.write_text("", "utf-8")
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"the workdir {path} is not writable ({error.strerror}): choose another "
            "with --workdir=DIR"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is never seen half-written.

    Raises:
        ValueError: for a NaN or an infinity, which JSON has not.
    """
    text = json.dumps(value, indent=2, default=str, allow_nan=False)
    files.write_durably(path, f"{text}\n".encode())
