"""The archives that a set is prepared from: are they there, whole, and the right ones?

TFDS knows the size and the SHA-256 of each, but looks at neither of an archive that a
person has fetched without its help, as ImageNet's are. The size is looked at first, in
no time; the checksum before the hours that preparing ImageNet takes.
"""

import hashlib
import os
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from optnet_jax.data.spec import Spec
from optnet_jax.errors import InputError
from optnet_jax.runs import files


class Archive(NamedTuple):
    """What TFDS knows of an archive."""

    url: str
    size: int
    sha256: str


def archives_of(builder: Any) -> dict[str, Archive]:
    """The archives that a set is prepared from, by their file names."""
    return {
        info.filename or Path(url).name: Archive(url, int(info.size), info.checksum)
        for url, info in (builder.url_infos or {}).items()
    }


def is_there(path: Path) -> bool:
    """Whether an archive is there; what has its place must be a file that can be read.

    Raises:
        InputError: naming what is there instead.
    """
    file = Path(os.path.realpath(path))  # as a link, an archive may lie elsewhere
    try:
        os.close(files.open_regular(file, os.O_RDONLY))
    except FileNotFoundError as error:
        if not path.is_symlink():
            return False
        fault, cause = f"is a link to {file}, which is not there", error
    except OSError as error:
        fault, cause = f"cannot be read ({error.strerror})", error
    except InputError as error:
        kind = "a folder" if path.is_dir() else "not a regular file"
        fault, cause = f"is {kind}", error
    else:
        return True
    raise InputError(f"{path} {fault}: the archive itself must be there") from cause


def check_size(spec: Spec, path: Path, archive: Archive) -> None:
    """Refuses an archive of another size than the genuine one.

    A tar that a person must fetch may also be a smaller one in the same layout, such as
    an excerpt for a trial: that one need only be whole.

    Raises:
        InputError: naming the file and both sizes.
    """
    size = path.stat().st_size
    if size == archive.size:
        return
    sizes = f"it has {size:,} bytes instead of {archive.size:,}"
    if not spec.manual:
        fault = "is not the archive"
    else:
        fault = _tar_fault(path)
        if not fault:
            logging.warning(
                "%s is a whole tar but not that of %s: %s", path, spec.name, sizes
            )
            return
    raise InputError(
        f"{path.resolve()} {fault} of {spec.name}: {sizes}; fetch it again"
    )


def check_checksum(spec: Spec, path: Path, archive: Archive) -> None:
    """Refuses an archive of the genuine size that holds something else.

    Raises:
        InputError: naming the file and both checksums.
    """
    if path.stat().st_size != archive.size:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != archive.sha256:
        raise InputError(
            f"{path.resolve()} is not the archive of {spec.name}, or damaged: its "
            f"SHA-256 is {found} instead of {archive.sha256}; fetch it again"
        )


def _tar_fault(path: Path) -> str:
    """What is wrong with a tar, or nothing; reads the headers only."""
    try:
        with tarfile.open(path, "r:") as tar:
            for _ in tar:
                pass
            # Where the headers end, by the end mark or by a header that is none.
            end = tar.offset
    except (tarfile.TarError, OSError) as error:
        return f"is no tar or a truncated one ({error}), not the one"
    with path.open("rb") as file:
        file.seek(end)
        mark = file.read(tarfile.RECORDSIZE)
        rest = os.fstat(file.fileno()).st_size - file.tell()
    if len(mark) < tarfile.BLOCKSIZE or mark.strip(b"\0") or rest:
        return f"is a tar that is damaged at byte {end:,}, not the one"
    return ""
