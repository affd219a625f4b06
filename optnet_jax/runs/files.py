"""Files that survive a power cut, and are never taken for what they are not.

A file that is called saved is on the disk: its bytes and its folder's entry are synced
before the name appears. Links are never followed, and nothing but a regular file is
read: a FIFO would hang, a folder would end in a traceback.
"""

import contextlib
import errno
import fcntl
import io
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from optnet_jax.errors import InputError, named, one_line


def write_durably(path: Path, write: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a whole file; a reader sees the old one or the new one, never a part.

    A symbolic link at ``path`` is replaced, not followed.

    Args:
        path: The file.
        write: Its bytes, or a function that writes them into an open binary file.

    Raises:
        OSError: if it cannot be written; nothing is left behind then.
        InputError: if there is a folder.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with open(os.open(temporary, flags, 0o666), "wb") as file:
            if isinstance(write, bytes):
                file.write(write)
            else:
                write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, IsADirectoryError):
            raise _not_regular(path) from error
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def readable(cure: str = "", path: object = None) -> Iterator[None]:
    """Say in one line what cannot be read, and the cure, which follows as it stands.

    Raises:
        InputError: naming the path, by default that of the OSError; an error without
            one says itself what it is about.
    """
    try:
        yield
    except OSError as error:
        place, cause = path or error.filename, error.strerror or one_line(error)
        fault = f"{named(place)} cannot be read ({cause})" if place else cause
        raise InputError(f"{fault}{cure}") from error


def exists(path: str | Path) -> bool:
    """Return whether there is something at a path, which may be a link to it.

    ``Path.exists`` of Python 3.14 says no where nobody may look, too.

    Raises:
        InputError: it may not be looked at.
    """
    return _mode(path) is not None


def is_folder(path: str | Path) -> bool:
    """Return whether there is a folder at a path; raises as :func:`exists`."""
    return stat.S_ISDIR(_mode(path) or 0)


def _mode(
    path: str | Path, look: Callable[..., os.stat_result] = os.stat
) -> int | None:
    with readable(": give read permission, or name another", path):
        try:
            return look(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None


def visible(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the files below a folder, at any depth, by name; nothing that is hidden.

    Links are followed, but not into a folder that is being looked at.

    Args:
        folder: The folder.
        above: The folders in which this one is, as :func:`os.path.realpath` has them.

    Raises:
        OSError: a folder cannot be read.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if name.startswith("."):
            continue
        if path.is_dir():
            yield from visible(path, (*above, real))
        else:
            yield path


def make_folder(path: Path) -> list[Path]:
    """Make a folder and its missing parents, and bring their entries to the disk.

    Returns:
        What was missing, the innermost first.
    """
    missing = [folder for folder in (path, *path.parents) if not exists(folder)]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)
    return missing


def write_output(
    path: Path, write: bytes | Callable[[BinaryIO], object], cure: str
) -> Path:
    """Write a file that a person asked for, as :func:`write_durably`, and its folder.

    Raises:
        InputError: if it cannot be written, with the ``cure``.
    """
    try:
        make_folder(path.parent)
        write_durably(path, write)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}): {cure}"
        ) from error
    return path


def not_written(problem: str, cause: str | None, kept: str) -> InputError:
    """Return the error of what cannot write, and can go on from what is kept."""
    return InputError(
        f"{problem} ({cause}), {kept}: make room or give write permission and run the "
        "same command again"
    )


def sync_folder(folder: Path, flags: int = os.O_DIRECTORY) -> None:
    """Bring a folder's entries (names, renames, deletions) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Bring every file and folder below ``root``, and ``root``'s own entry, to disk."""
    for folder, _, names in os.walk(root):
        for name in names:
            sync_folder(Path(folder, name), os.O_NOFOLLOW | os.O_NONBLOCK)
        sync_folder(Path(folder))
    sync_folder(root.parent)


def open_regular(path: Path, flags: int) -> int:
    """Open a file that must be a regular one, or is made; return its descriptor.

    Raises:
        OSError: if it cannot be opened.
        InputError: if there is a folder, a link, a FIFO or the like.
    """
    try:
        # A link is not followed, and a FIFO that nobody reads does not hang.
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _not_regular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return descriptor


def read_regular(path: Path) -> bytes:
    """Read a file that must be a regular one.

    Raises:
        FileNotFoundError: if there is nothing at ``path``.
        InputError: if there is a folder, a link, a FIFO or the like, or if it cannot be
            read.
    """
    try:
        with open(open_regular(path, os.O_RDONLY), "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): move it away or give read "
            "permission"
        ) from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: if there is nothing at ``path``.
        InputError: if there is something else than a regular file.
        ValueError: if it holds no JSON object; an ``InputError`` is one, too.
    """
    try:
        value = json.loads(read_regular(path))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def open_lock(path: Path) -> io.FileIO:
    """Open the file of a lock as :func:`open_regular` does; what it holds stays."""
    return io.FileIO(open_regular(path, os.O_RDWR | os.O_CREAT), "r+")


def take_lock(file: io.FileIO) -> str:
    """Take a lock, which the kernel drops with its file, also at a kill.

    Returns:
        The process that has it; empty once it is this one.

    Raises:
        OSError: if the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        file.seek(0)
        owner = file.read(200).decode("utf-8", "replace").strip()
        named = re.fullmatch(r"process \d+ on \S+", owner)
        return owner if named else "another process"
    # It is only told to others: a full disk keeps nobody from the lock.
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.seek(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}".encode())
        os.fsync(file)  # NFS shows other hosts no more than what is synced
    return ""


def check_kind(path: Path, *, folder: bool = False) -> None:
    """Raise InputError for what is neither missing nor a regular file (or a folder)."""
    mode = _mode(path, os.lstat)
    if mode is None:
        return
    if folder and not stat.S_ISDIR(mode):
        link = "put the folder itself there, no link"
        cure = link if stat.S_ISLNK(mode) else "move it away"
        raise InputError(f"{path} is not a folder: {cure}")
    if not folder and not stat.S_ISREG(mode):
        raise _not_regular(path)


def _not_regular(path: Path) -> InputError:
    return InputError(f"{path} is not a regular file: move it away")
