"""The archives that a set is prepared from: are they there, whole, and the right ones?

TFDS knows the size and the SHA-256 of each, but looks at neither of an archive that a
person has fetched without its help, as ImageNet's are.
"""

import contextlib
import hashlib
import os
import tarfile
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from optnet_jax.data.spec import Spec
from optnet_jax.errors import InputError
from optnet_jax.runs import files, program


class Archive(NamedTuple):
    """What TFDS knows of an archive."""

    url: str
    size: int
    sha256: str


PROBE_SECONDS = 1.5

STAMPS = {
    "train-images-idx3-ubyte.gz": 1504176606,
    "train-labels-idx1-ubyte.gz": 1504176606,
    "t10k-images-idx3-ubyte.gz": 1504176627,
    "t10k-labels-idx1-ubyte.gz": 1504176627,
}
"""Seconds since 1970 in the gzip headers of Fashion-MNIST's archives.

Debian's package ``dataset-fashion-mnist`` has them with headers that lack this and the
file's name. With both put back they are the genuine archives, bit for bit.
"""


def archives_of(builder: Any) -> dict[str, Archive]:
    """Return the archives that a set is prepared from, by their file names."""
    return {
        info.filename or Path(url).name: Archive(url, int(info.size), info.checksum)
        for url, info in (builder.url_infos or {}).items()
    }


def listed(some: Mapping[str, Archive]) -> str:
    """Return names and sizes of archives, as a message has them."""
    return " and ".join(f"{name} ({one.size:,} bytes)" for name, one in some.items())


def is_there(path: Path) -> bool:
    """Return whether an archive is there, as a file that can be read.

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
        kind = "a folder" if os.path.isdir(path) else "not a regular file"
        fault, cause = f"is {kind}", error
    else:
        return True
    raise InputError(f"{path} {fault}: the archive itself must be there") from cause


def check_there(spec: Spec, builder: Any, manual_dir: Path) -> None:
    """Refuse a set whose archives are neither there nor can be downloaded.

    Raises:
        InputError: naming what is missing, with its size, and where to put it.
    """
    missing = {
        name: archive
        for name, archive in archives_of(builder).items()
        if not is_there(manual_dir / name)
    }
    for archive in missing.values():
        # Without one of ImageNet's archives TFDS would prepare the split of the other.
        reason = "without an account" if spec.manual else unreachable(archive.url)
        if reason:
            place = f", which Debian's package {spec.package} has," * bool(spec.package)
            raise InputError(
                f"{spec.name} is not in {builder.data_dir_root} and cannot be "
                f"downloaded {reason}: put {listed(missing)}{place} into {manual_dir}"
            )


def unreachable(url: str) -> str:
    """Say, in brackets, why ``url`` cannot be downloaded; nothing if its host answers.

    A name server that does not answer keeps its caller for longer than any socket's
    timeout.
    """
    host = urllib.parse.urlsplit(url).hostname
    request = urllib.request.Request(url, method="HEAD")

    def ask() -> None:
        urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()

    try:
        program.in_background(ask).result(PROBE_SECONDS)
    except TimeoutError:
        return f"({host} does not answer)"
    except OSError as error:  # URLError and HTTPError are OSErrors
        return f"({host}: {getattr(error, 'reason', None) or error})"
    return ""


def check(spec: Spec, path: Path, archive: Archive) -> None:
    """Refuse an archive that is there and is not the genuine one.

    A tar that a person must fetch may also be a smaller one in the same layout, such as
    an excerpt for a trial: that one need only be whole.

    Raises:
        InputError: naming the file and its size or checksum, or why it cannot be read.
    """
    if not is_there(path):
        return
    size = path.stat().st_size
    if size == archive.size:
        found = _sha256(path)
        if found == archive.sha256:
            return
        fault = f"is not the archive of {spec.name}, or damaged: its SHA-256 is {found}"
        raise InputError(
            f"{path.resolve()} {fault} instead of {archive.sha256}; fetch it again"
        )
    if _with_header(path, archive):
        return
    sizes = f"it has {size:,} bytes instead of {archive.size:,}"
    fault = _tar_fault(path) if spec.manual else "is not the archive"
    if fault:
        raise InputError(
            f"{path.resolve()} {fault} of {spec.name}: {sizes}; fetch it again"
        )
    text = "%s is a whole tar but not that of %s: %s"
    logging.warning(text, path, spec.name, sizes)


def _sha256(path: Path) -> str:
    with files.readable("; fetch it again", path.resolve()), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def staged(builder: Any, folder: Path) -> Iterator[Path]:
    """Give the archives as TFDS wants them: in ``folder``, or beside repaired ones.

    TFDS refuses an archive of another checksum. One that lacks a part of its gzip
    header only (:data:`STAMPS`) stands in a temporary folder with that part put back.
    """
    wanted = archives_of(builder)
    repaired = {name: _with_header(folder / name, wanted[name]) for name in wanted}
    if not any(repaired.values()):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        for name, content in repaired.items():
            if content is not None:
                (Path(temporary) / name).write_bytes(content)
            elif (folder / name).exists():
                (Path(temporary) / name).symlink_to((folder / name).resolve())
        yield Path(temporary)


def _with_header(path: Path, archive: Archive) -> bytes | None:
    """Return the genuine archive, if ``path`` lacks time and name of its header."""
    name = f"{path.stem}\0".encode()
    stamp = STAMPS.get(path.name)
    if stamp is None or not path.is_file():
        return None
    if path.stat().st_size + len(name) != archive.size:
        return None
    content = path.read_bytes()
    # RFC 1952: magic, method, flags (8: a name follows), time, two bytes, the name.
    header = b"\x1f\x8b\x08\x08" + stamp.to_bytes(4, "little") + content[8:10] + name
    found = header + content[10:]
    return found if hashlib.sha256(found).hexdigest() == archive.sha256 else None


def _tar_fault(path: Path) -> str:
    """Return what is wrong with a tar, or nothing, by its headers alone."""
    try:
        with tarfile.open(path, "r:") as tar:
            for _ in tar:
                pass
            # Where the headers end, by the end mark or by a header that is none.
            end = tar.offset
        with path.open("rb") as file:
            file.seek(end)
            mark = file.read(tarfile.RECORDSIZE)
            rest = os.fstat(file.fileno()).st_size - file.tell()
    except (tarfile.TarError, OSError) as error:
        return f"is no tar or a truncated one ({error}), not the one"
    if len(mark) < tarfile.BLOCKSIZE or mark.strip(b"\0") or rest:
        return f"is a tar that is damaged at byte {end:,}, not the one"
    return ""
