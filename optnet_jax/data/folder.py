"""A folder of pictures as a data set: ``DIR/train/CLASS/*.png``, ``DIR/test/CLASS/*``.

Where there is no test folder, a fifth of each class is tested on; where there is no
train folder either, the classes lie in ``DIR`` itself. What is found is described as a
:class:`.Spec`, whose TFDS builder (:mod:`.folder_builder`) decodes the pictures once.
Its name among the prepared sets is a digest of the files' names, sizes and times: a
folder that has changed is another set, and is prepared anew.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from optnet_jax.data.spec import Spec
from optnet_jax.errors import InputError, named, shown

NAME = "optnet_folder"
TEST_FOLDERS = ("test", "val", "validation")
"""What the folder of the pictures to test on may be called; the first one is taken."""

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)

MOST_IN_MEMORY = 2**30
"""Bytes, as the network sees the pictures; a larger set is streamed."""

SPLIT_SEED = 0


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file of a class.

    Attributes:
        path: where it lies, relative to the folder.
        label: of its class.
        state: its size and the time of its last change.
    """

    path: str
    label: int
    state: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Folder:
    """What a folder of pictures holds.

    Attributes:
        root: the folder.
        classes: names of the classes, in the order of their labels.
        train: what is trained on.
        test: what is tested on.
        note: how the two were told apart, and what was left out.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[Picture, ...]
    test: tuple[Picture, ...]
    note: str


def spec_of(folder: str, size: int) -> Spec:
    """Describe a folder as a data set.

    Returns:
        Its entry, as those in the table of data sets; mean and deviation are left to
        the prepared set, which has measured them.

    Raises:
        InputError: if there are no two classes of pictures, or no size.
    """
    if not folder:
        raise InputError(
            f"data.dataset={NAME} is a folder of pictures: say which one with "
            "--config.data.folder=DIR"
        )
    if not size:
        raise InputError(
            f"data.dataset={NAME} needs the side of the network's input in pixels, "
            "such as --config.data.image_size=64"
        )
    found = scan(Path(folder))
    pictures = len(found.train) + len(found.test)
    streamed = pictures * 3 * size**2 > MOST_IN_MEMORY
    return Spec(
        name=NAME,
        num_classes=len(found.classes),
        image_shape=(size, size, 3),
        mean=(),
        std=(),
        # CIFAR's four of 32.
        pad=0 if streamed else size // 8,
        flip=True,
        streamed=streamed,
        module="optnet_jax.data.folder_builder",
        builder_config={
            "name": _digest(found, size, streamed),
            "found": found,
            "size": size,
            "streamed": streamed,
        },
        note=found.note,
    )


def _digest(found: Folder, size: int, streamed: bool) -> str:
    pictures = [list(map(dataclasses.astuple, p)) for p in (found.train, found.test)]
    content = json.dumps([found.classes, pictures, size, streamed])
    return hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()[:16]


def scan(root: Path) -> Folder:
    """Find the classes of a folder and their pictures; none is opened.

    Raises:
        InputError: if a folder cannot be read, there are fewer than two classes, a
            class has no pictures, or one is tested and not trained on.
    """
    inside = _entries(root)
    tested = [name for name in TEST_FOLDERS if name in inside]
    if "train" not in inside and tested:
        raise InputError(
            f"{named(root)} has a folder {tested[0]} and none called train: the "
            "classes to train on belong into it"
        )
    trained = "train" if "train" in inside else ""
    classes = tuple(_classes(root / trained, least=2))
    left_out: list[str] = []
    train = _pictures(root, trained, classes, left_out)
    if not tested:
        train, test = _split(root, classes, train)
        note = f"a fifth of each class to test on, split seed {SPLIT_SEED}"
    else:
        names = _classes(root / tested[0], least=1)
        for name in names:
            if name not in classes:
                raise InputError(
                    f"{named(root / tested[0])} has the class {shown(name)}, which "
                    f"{named(root / trained)} lacks"
                )
        test = _pictures(root, tested[0], classes, left_out, names)
        note = f"tested on {tested[0]}"
    if left_out:
        note += f"; no pictures and left out: {len(left_out)}, such as {left_out[0]}"
    return Folder(root, classes, tuple(train), tuple(test), note)


def _entries(folder: Path) -> dict[str, os.DirEntry]:
    """Return what a folder holds, by name in order, but what is hidden."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(
            f"{named(folder)} cannot be read ({error.strerror})"
        ) from error
    return {entry.name: entry for entry in sorted(visible, key=lambda e: e.name)}


def _classes(folder: Path, least: int) -> list[str]:
    names = [name for name, entry in _entries(folder).items() if entry.is_dir()]
    for name in names:
        if not name.isprintable() or name != name.strip():
            raise InputError(
                f"{named(folder)} has a class folder called {name!r}: rename it, its "
                "name is the class's and must be plain text"
            )
    if len(names) < least:
        what = f"one class folder only, {names[0]}" if names else "no class folders"
        raise InputError(
            f"{named(folder)} has {what}: pictures lie in a folder for each class, as "
            f"{named(folder)}/CLASS/*.png, and there must be two classes"
        )
    return names


def _pictures(
    root: Path,
    part: str,
    classes: tuple[str, ...],
    left_out: list[str],
    present: list[str] | None = None,
) -> list[Picture]:
    found = []
    for name in classes if present is None else present:
        of_class = list(_of_class(root, os.path.join(part, name), left_out))
        if not of_class:
            raise InputError(
                f"{named(root / part / name)} has no pictures: put some into it, or "
                "delete it"
            )
        label = classes.index(name)
        found += [Picture(path, label, state) for path, state in of_class]
    return found


def _of_class(
    root: Path, path: str, left_out: list[str]
) -> Iterator[tuple[str, tuple[int, int]]]:
    for name, entry in _entries(root / path).items():
        file = os.path.join(path, name)
        if os.path.splitext(name)[1].lower() not in SUFFIXES or entry.is_dir():
            left_out.append(named(file))
            continue
        try:
            stat = entry.stat()
        except OSError as error:
            raise InputError(
                f"{named(root / file)} cannot be read ({error.strerror})"
            ) from error
        yield file, (stat.st_size, stat.st_mtime_ns)


def _split(
    root: Path, classes: tuple[str, ...], pictures: list[Picture]
) -> tuple[list[Picture], list[Picture]]:
    """Take a fifth of each class to test on: those whose names have the least digests.

    A picture that is added moves few of the others from one side to the other.
    """
    train, test = [], []
    for label, name in enumerate(classes):
        mine = [picture for picture in pictures if picture.label == label]
        if len(mine) < 2:
            raise InputError(
                f"{named(root)} has no test folder, and of the class {name} one "
                "picture only: two are needed to train on the one and test on the other"
            )
        mine.sort(key=_draw)
        tested = max(1, round(len(mine) / 5))
        test += mine[:tested]
        train += mine[tested:]
    return train, test


def _draw(picture: Picture) -> bytes:
    text = f"{SPLIT_SEED}:{picture.path}".encode(errors="surrogateescape")
    return hashlib.sha256(text).digest()
