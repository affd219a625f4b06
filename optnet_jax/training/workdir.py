"""The directory of one run: who owns it, what config it belongs to, what is done."""

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import logging

from optnet_jax.configuration import Block, Config, as_json, local_path
from optnet_jax.errors import InputError
from optnet_jax.runs import distributed, files, step_folders
from optnet_jax.training.differences import config_differences, listed

# The files of a run, and its folders; neither is ever anything else.
FILES = (
    ".lock",
    "config.json",
    "dataset.json",
    "metrics.jsonl",
    "coefficients.jsonl",
    "coefficients.npz",
    "result.json",
)
FOLDERS = ("checkpoints", "damaged_checkpoints", "plots", "profile")
# What only writing raises: full, over quota, read-only.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# What a workdir that cannot be written raises: also that it is not ours.
WRITE_ERRORS = (*FULL, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
# What a new run would overwrite.
OURS = ("metrics.jsonl", "coefficients.*", "result.json", "events.out.tfevents.*")


class Workdir:
    """A run's directory, claimed by one program at a time.

    Use it as a context: entering makes the directory, locks it, and compares the config
    with the one of an earlier start.
    """

    def __init__(self, path: str | Path, config: Config | Block):
        self.path = local_path(path, "workdir").absolute()
        self._config = config
        self._held = contextlib.ExitStack()

    def __enter__(self) -> "Workdir":
        with contextlib.ExitStack() as held:
            problem = ""
            if jax.process_index() == 0:
                try:
                    self._claim(held)
                except InputError as error:
                    problem = str(error)
            # Only process 0 looks; the others must not go on alone if it stops.
            if not distributed.everywhere(not problem):
                raise InputError(problem or "process 0 refused the workdir")
            self._held = held.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._held.close()

    def _claim(self, held: contextlib.ExitStack) -> None:
        try:
            made = files.make_folder(self.path)
            probe = self.path / f".writable.{os.getpid()}"
            files.write_durably(probe, b"")
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"the workdir {self.path} is not writable ({error.strerror}): choose "
                "another with --workdir=DIR"
            ) from error
        check_kinds(self.path)
        self._lock_it(held)
        held.callback(self._unmake, made)  # no other program's any more
        self._check_config()

    def _lock_it(self, held: contextlib.ExitStack) -> None:
        file = self.path / ".lock"
        try:
            lock = held.enter_context(files.open_lock(file))
        except OSError as error:
            raise InputError(
                f"{file} cannot be written ({error.strerror}): it is what keeps two "
                "programs apart; give write permission or choose another --workdir"
            ) from error
        try:
            owner = files.take_lock(lock)
        except OSError as error:
            logging.warning(
                "the file system of %s has no locks (%s): see to it that no other "
                "program uses this workdir",
                self.path,
                error.strerror,
            )
            return
        if owner:
            raise InputError(
                f"{self.path} is in use by {owner}: wait for it, stop it, or choose "
                "another --workdir"
            )

    def _check_config(self) -> None:
        stored = read_json(self.path / "config.json")
        if stored is None or "experiment" not in stored:
            self._refuse_what_is_not_ours(stored)
        has_results = (
            step_folders.steps(self.checkpoints)
            or files.exists(self.path / "result.json")
            or any(self.path.glob("cells/*.json"))
        )
        if stored is None:
            return
        own = as_json(self._config)
        # What another experiment leaves has other names: all of it counts.
        differences = config_differences(stored, own, ["experiment"])
        if has_results and not differences:
            differences = config_differences(stored, own)
        if differences:
            raise InputError(
                f"{self.path} belongs to a run with another config "
                f"({listed(differences)}): use that config or another --workdir"
            )

    def _refuse_what_is_not_ours(self, stored: Mapping[str, Any] | None) -> None:
        """Without a config of ours, what has our files' names may be anyone's."""
        if step_folders.steps(self.checkpoints):
            # An older start's, whose config is lost: the checkpoint is asked next.
            return
        foreign = [file.name for name in OURS for file in self.path.glob(name)]
        if stored is not None:
            foreign.insert(0, "config.json")
        if foreign:
            raise InputError(
                f"{self.path} holds {', '.join(sorted(foreign)[:3])} but no config.json"
                " of a run: another program's files would be overwritten; move them "
                "away or choose another --workdir"
            )

    def write_config(self, dataset: Mapping[str, Any] | None = None) -> None:
        """Write ``config.json`` and ``dataset.json``; the config is known to work."""
        if jax.process_index() == 0:
            write_json(self.path / "config.json", as_json(self._config))
            if dataset is not None:
                write_json(self.path / "dataset.json", dataset)

    def _unmake(self, made: Sequence[Path]) -> None:
        """Remove the folders that this run has made, if nothing is in them."""
        with contextlib.suppress(OSError):  # one of them is not empty
            if made and {*os.listdir(self.path)} <= {".lock", "checkpoints"}:
                if self.checkpoints.exists():
                    self.checkpoints.rmdir()
                (self.path / ".lock").unlink()
                for folder in made:
                    folder.rmdir()

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.path / "checkpoints"

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Mark the run as finished (on process 0)."""
        if jax.process_index() == 0:
            write_json(self.path / "result.json", result)


@contextlib.contextmanager
def named_write_errors(workdir: Path, kept: Callable[[], str]) -> Iterator[None]:
    """Say in one line that a workdir cannot be written, wherever that shows.

    Args:
        workdir: The directory.
        kept: Says what the next start goes on from.

    Raises:
        InputError: in place of an OSError of what is written.
    """
    try:
        yield
    except OSError as error:
        inside = f"{error.filename}/".startswith(f"{workdir}/")
        elsewhere = error.filename is not None and not inside
        if not inside and error.errno not in (FULL if elsewhere else WRITE_ERRORS):
            raise  # nothing that is written
        place = error.filename if elsewhere else workdir
        raise files.not_written(
            f"{place} could not be written", error.strerror, kept()
        ) from error


def check_kinds(path: Path) -> None:
    """Refuse a run's directory in which a file is a link, a folder, a FIFO or the like.

    What is written there would go elsewhere, and what is read might never come. The
    directory itself may be reached by a link.

    Raises:
        InputError: naming the file.
    """
    for name in FILES:
        files.check_kind(path / name)
    for name in FOLDERS:
        files.check_kind(path / name, folder=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; ``None`` where it is missing or, after a warning, damaged.

    Raises:
        InputError: if there is something else than a regular file.
    """
    try:
        return files.read_object(path)
    except FileNotFoundError:
        return None
    except InputError:
        raise
    except ValueError as error:
        logging.warning("%s is damaged (%s): it counts as missing", path, error)
        return None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is never seen half-written; see :func:`as_text`."""
    files.write_durably(path, as_text(value))


def as_text(value: Any) -> bytes:
    """Return a value as a JSON file holds it.

    Raises:
        ValueError: for a NaN or an infinity, which JSON has not.
    """
    text = json.dumps(value, indent=2, default=str, allow_nan=False)
    return f"{text}\n".encode()
