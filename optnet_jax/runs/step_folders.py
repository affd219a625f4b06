"""The folder ``checkpoints/``: one folder a step, each there whole or not at all.

A step is written and deleted under a temporary name, which the next start removes. The
order of syncing, renaming and deleting is what a power cut relies on.
"""

import contextlib
import errno
import itertools
import os
import re
import shutil
from pathlib import Path

from absl import logging

from optnet_jax.runs import files

# Ours, ``12.tmp``, and Orbax's, ``12.orbax-checkpoint-tmp``.
_TEMPORARY = re.compile(r"\d+\..*tmp.*")


def prepare(directory: Path) -> None:
    """Make the folder, and remove what a killed start left in part."""
    files.make_folder(directory)
    remove_temporary(directory)


def remove_temporary(directory: Path) -> None:
    """Remove what was being written or deleted and never will be."""
    for entry in directory.iterdir():
        if _TEMPORARY.fullmatch(entry.name):
            # One that stays takes room, but is in nobody's way.
            with contextlib.suppress(OSError):
                _remove(entry)


def _remove(entry: Path) -> None:
    """Remove a folder, or what is in its place: a link itself, never its target."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def check_kinds(directory: Path, step: int) -> None:
    """Refuse a step in which anything is neither a regular file nor a folder.

    A FIFO would be waited for, and what a link leads to is not ours.

    Raises:
        InputError: naming what it is.
    """
    root = directory / str(step)
    files.check_kind(root, folder=True)
    for folder, inner, names in os.walk(root):
        for name in inner:
            files.check_kind(Path(folder, name), folder=True)
        for name in names:
            files.check_kind(Path(folder, name))


def steps(directory: Path) -> list[int]:
    """Return the steps that are there, oldest first.

    Raises:
        InputError: the folder cannot be read.
    """
    if not files.is_folder(directory):
        return []
    with files.readable(": give read permission", directory):
        names = os.listdir(directory)
    return sorted(int(n) for n in names if n.isascii() and n.isdigit())


def newest(directory: Path) -> str:
    """Say which step a run that cannot write goes on from."""
    found = [f"the checkpoint of step {step} is intact" for step in steps(directory)]
    return found[-1] if found else "there is no earlier checkpoint"


def temporary(directory: Path, step: int) -> Path:
    """Return where a step is written before it is committed."""
    return directory / f"{step}.tmp"


def check_room(directory: Path, step: int, size: int, count: int) -> None:
    """Find out whether a step fits: take the room that it needs, and give it back.

    Orbax writes with many threads at once and says of a full disk what each of them
    meets; some of them it waits for. So a disk, a quota or a table of inodes that is
    full shows here, in one error.

    Raises:
        OSError: if there is no room.
    """
    folder = directory / f"{step}.room.tmp"
    folder.mkdir()
    try:
        for number in range(count - 1):
            (folder / str(number)).touch()
        with open(folder / "0", "wb") as file:
            if hasattr(os, "posix_fallocate"):  # macOS has none
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        # A file system that cannot tell beforehand.
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
    finally:
        shutil.rmtree(folder)


def commit(directory: Path, step: int) -> None:
    """Give a written step its name, once all of it is on the disk."""
    written = temporary(directory, step)
    files.sync_tree(written)
    written.rename(directory / str(step))
    files.sync_folder(directory)


def delete(directory: Path, step: int) -> None:
    """Delete a step; killed half-way, what is left is no step any more."""
    doomed = directory / f"{step}.deleted.tmp"
    (directory / str(step)).rename(doomed)
    try:
        _remove(doomed)
    except OSError as error:
        # As on NFS, which keeps what another process of this host has open.
        logging.warning(
            "%s could not be deleted (%s): the next start deletes it",
            doomed,
            error.strerror,
        )


def set_aside(directory: Path, step: int) -> None:
    """Move a damaged step to ``damaged_checkpoints/`` beside the folder."""
    aside = directory.with_name("damaged_checkpoints")
    aside.mkdir(exist_ok=True)
    names = (
        f"{step}.{number}" if number else str(step) for number in itertools.count()
    )
    target = next(name for name in names if not (aside / name).exists())
    (directory / str(step)).rename(aside / target)
    files.sync_folder(directory)
