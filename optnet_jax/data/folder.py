"""A folder of pictures as a data set: ``DIR/train/CLASS/*.png``, ``DIR/test/CLASS/*``.

Where there is no test folder, a fifth of each class is tested on; where there is no
train folder either, the classes lie in ``DIR`` itself. What is found is described as a
:class:`.Spec`, whose TFDS builder (:mod:`.folder_builder`) decodes the pictures once.
Its name among the prepared sets is a digest of the files' names, sizes and times: a
folder that has changed is another set, and is prepared anew.
"""

import hashlib
import json
import os
import stat
import unicodedata
from pathlib import Path
from typing import NamedTuple

from optnet_jax.data.spec import FOLDER, Spec
from optnet_jax.errors import InputError, did_you_mean, named, shown
from optnet_jax.runs import files

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
"""What the names of the pictures in a folder end in."""

TEST_FOLDERS = ("test", "val", "validation")
"""What the folder of the pictures to test on may be called; the first one is taken."""

MOST_IN_MEMORY = 2**30
"""Bytes, as the network sees the pictures; a larger set is streamed."""

SPLIT_SEED = 0


class Picture(NamedTuple):
    """A file of a class.

    Attributes:
        path: where it lies, relative to the folder.
        label: of its class.
        state: its size and the time of its last change.
    """

    path: str
    label: int
    state: tuple[int, int]


class Folder(NamedTuple):
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
            f"data.dataset={FOLDER} is a folder of pictures: say which one with "
            "--config.data.folder=DIR"
        )
    if not size:
        raise InputError(
            f"data.dataset={FOLDER} needs the side of the network's input in pixels, "
            "such as --config.data.image_size=64"
        )
    found = scan(Path(folder))
    pictures = len(found.train) + len(found.test)
    streamed = pictures * 3 * size**2 > MOST_IN_MEMORY
    content = json.dumps([found.classes, [found.train, found.test], size, streamed])
    digest = hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()
    return Spec(
        name=FOLDER,
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
            "name": digest[:16],
            "found": found,
            "size": size,
            "streamed": streamed,
        },
        note=found.note,
    )


def scan(root: Path) -> Folder:
    """Find the classes of a folder and their pictures; none is opened.

    Raises:
        InputError: if a folder cannot be read, there are fewer than two classes or two
            of one name, a class has no pictures, or one is tested and not trained on;
            or if a folder beside ``train`` may be meant to be tested on.
    """
    inside = _entries(root)
    tested = next((name for name in TEST_FOLDERS if name in inside), "")
    trained = "train" if "train" in inside else ""
    if tested and not trained:
        raise InputError(
            f"{named(root)} has a folder {tested} and none called train: the classes "
            "to train on belong into it (for --mode=eval, make it a link to the run's);"
            f" no class can be called {tested}"
        )
    beside = [
        name
        for name, found in inside.items()
        if trained and name not in (trained, tested) and stat.S_ISDIR(found.st_mode)
    ]
    left_out = _loose(inside, "") if trained else []
    classes = _classes(root, trained, left_out, least=2)
    if beside and not tested:
        raise InputError(
            f"{named(root)} has a folder {shown(beside[0])} beside {trained}: call it "
            f"{TEST_FOLDERS[0]} to test on it, or move it away to test on a fifth of "
            f"each class of {trained}"
        )
    left_out += map(named, beside)
    if tested:
        train, test = classes, _classes(root, tested, left_out, least=1)
        for name in test:
            if name not in classes:
                raise InputError(
                    f"{named(root / tested)} has the class {shown(name)}, which "
                    f"{named(root / trained)} lacks{did_you_mean(name, classes)}"
                )
        note = f"tested on {tested}"
    else:
        train, test = _split(root, classes)
        note = f"a fifth of each class to test on, split seed {SPLIT_SEED}"
    if left_out:
        note += f"; left out: {len(left_out)}, such as {left_out[0]}"
    labels = list(classes)

    def labelled(part: dict[str, Files]) -> tuple[Picture, ...]:
        return tuple(
            Picture(path, labels.index(name), state)
            for name, files in part.items()
            for path, state in files.items()
        )

    return Folder(root, tuple(classes), labelled(train), labelled(test), note)


Files = dict[str, tuple[int, int]]
"""Path of a picture, relative to the folder -> its state."""


def _entries(folder: Path) -> dict[str, os.stat_result]:
    """Return what a folder holds, by name in order, but what is hidden."""
    with files.readable():
        names = sorted(name for name in os.listdir(folder) if name[0] != ".")
        return {name: os.stat(folder / name) for name in names}


def _is_picture(name: str, found: os.stat_result) -> bool:
    return name.lower().endswith(SUFFIXES) and stat.S_ISREG(found.st_mode)


def _loose(entries: dict[str, os.stat_result], folder: str) -> list[str]:
    """Return the pictures that lie beside folders of classes, and so have no class."""
    pictures = (name for name, found in entries.items() if _is_picture(name, found))
    return [named(os.path.join(folder, name)) for name in pictures]


def _classes(
    root: Path, part: str, left_out: list[str], least: int
) -> dict[str, Files]:
    folder = root / part
    entries = _entries(folder)
    left_out += _loose(entries, part)
    names = [name for name, found in entries.items() if stat.S_ISDIR(found.st_mode)]
    known: dict[str, str] = {}
    for name in names:
        if not name.isprintable() or name != name.strip():
            raise InputError(
                f"{named(folder)} has a class folder called {name!r}: rename it, its "
                "name is the class's and must be plain text"
            )
        same = known.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if same != name:
            raise InputError(
                f"{named(folder)} has two class folders that look alike, {same!a} and "
                f"{name!a}: merge them, or rename one"
            )
    if len(names) < least:
        what = f"one class folder only, {names[0]}" if names else "no class folders"
        taken = f"; no class can be called {part}" if part and not names else ""
        raise InputError(
            f"{named(folder)} has {what}: pictures lie in a folder for each class, as "
            f"{named(folder)}/CLASS/*.png, and there must be two classes{taken}"
        )
    return {name: _pictures(root, os.path.join(part, name), left_out) for name in names}


def _pictures(root: Path, folder: str, left_out: list[str]) -> Files:
    found: Files = {}
    others, entries = len(left_out), _entries(root / folder)
    for name, file in entries.items():
        path = os.path.join(folder, name)
        if _is_picture(name, file):
            found[path] = (file.st_size, file.st_mtime_ns)
        else:
            left_out.append(named(path))
    if not found:
        but = "".join(f", but {named(other)}" for other in left_out[others:][:1])
        cure = "delete it"
        deeper = any(stat.S_ISDIR(file.st_mode) for file in entries.values())
        if deeper and os.sep not in folder:
            cure = "call it train or test if its folders are the classes"
        raise InputError(
            f"{named(root / folder)} has no pictures{but}: put some into it, or {cure}"
        )
    return found


def _split(
    root: Path, classes: dict[str, Files]
) -> tuple[dict[str, Files], dict[str, Files]]:
    """Take a fifth of each class to test on: those whose names have the least digests.

    A picture that is added moves few of the others from one side to the other.
    """
    train, test = {}, {}
    for name, found in classes.items():
        if len(found) < 2:
            raise InputError(
                f"{named(root)} has no test folder, and of the class {name} one "
                "picture only: two are needed to train on the one and test on the other"
            )
        drawn = sorted(found.items(), key=lambda file: _draw(file[0]))
        tested = max(1, round(len(found) / 5))
        test[name], train[name] = dict(drawn[:tested]), dict(drawn[tested:])
    return train, test


def _draw(path: str) -> bytes:
    text = f"{SPLIT_SEED}:{path}".encode(errors="surrogateescape")
    return hashlib.sha256(text).digest()
