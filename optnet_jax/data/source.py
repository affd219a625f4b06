"""From a dataset's name to its prepared TFDS builder, or one line of what lacks.

TFDS left alone tries for minutes to download without a network. So this looks first: is
the set prepared, does its archive lie in ``<data_dir>/downloads/manual``, does the host
answer? Only then may TFDS begin.
"""

import contextlib
import importlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import constants, registered
from tensorflow_datasets.core.download import download_manager

from optnet_jax.data import archives, features, origins, quiet
from optnet_jax.data.spec import Spec
from optnet_jax.errors import InputError, one_line, shown
from optnet_jax.runs import files
from optnet_jax.runs.progress import say

POLL_SECONDS = 1.0
ANOTHER = "choose another data_dir with --config.data.data_dir"


@files.readable(f": give read permission, or {ANOTHER}")
def prepared_builder(
    spec: Spec, data_dir: str, manual_dir: str | Path | None = None
) -> Any:
    """Return the TFDS builder of a set that is ready to be read.

    Prepares the set where that is possible, one process of all that share the disk.

    Args:
        spec: the dataset.
        data_dir: where prepared sets lie; empty for TFDS's default.
        manual_dir: where archives lie that a person has fetched; by default
            ``<data_dir>/downloads/manual``.

    Raises:
        InputError: if the set is not there and cannot be prepared.
    """
    builder = find_builder(spec, data_dir)
    where = Path(manual_dir or Path(builder.data_dir_root, "downloads", "manual"))
    paths = {source: Path(source) for source in spec.sources}
    if spec.manual:  # others come from the genuine archives only, which do not change
        paths |= {name: where / name for name in archives.archives_of(builder)}
    # Asked first: a folder gets its name when it is complete.
    there = files.exists(builder.data_dir)
    if not is_prepared(builder):
        if there and "dataset_info.json" not in os.listdir(builder.data_dir):
            raise InputError(
                f"{builder.data_dir} has no dataset_info.json, which TFDS writes last: "
                "put it back, or delete that directory to prepare the set again"
            )
        builder = _other_version(spec, builder, where) or _prepared(
            spec, builder, where, paths
        )
    origins.say_changes(Path(builder.data_dir), paths)
    features.check(spec, builder)
    return builder


def _other_version(spec: Spec, builder: Any, manual_dir: Path) -> Any:
    """Return the set as another version of its builder has prepared it, or None.

    TFDS raises a version now and then; what was prepared before, hours of work in
    ImageNet's case, lies in another folder, which describes itself. The newest that can
    be read is taken: of all if this version cannot be had, else of those that the
    builder's author takes for as good.

    Raises:
        InputError: if no version can be had; why those that are there are of no use.
    """
    faults: list[str] = []
    try:
        archives.check_there(spec, builder, manual_dir)
    except InputError as error:
        faults.append(str(error))
    version = tfds.core.Version
    folders = [
        folder
        for folder in Path(builder.data_dir).parent.glob("*/")
        if version.is_valid(folder.name)  # not one that is half prepared
        and (faults or folder.name in map(str, builder.versions))
    ]
    for folder in sorted(folders, key=lambda f: version(f.name), reverse=True):
        try:
            found = _read_version(spec, folder)
        except InputError as error:
            if faults:
                faults.append(f"its version {folder.name} there is of no use: {error}")
            continue
        text = "%s %s is not prepared: using %s"
        logging.warning(text, spec.name, builder.version, folder)
        return found
    if faults:
        raise InputError("; ".join(faults))
    return None


def _read_version(spec: Spec, folder: Path) -> Any:
    try:
        with quiet.no_chatter():
            builder = tfds.builder_from_directory(folder)
    except Exception as error:
        # TFDS and protobuf raise whatever is missing or damaged leads to.
        raise InputError(f"{folder} cannot be read ({one_line(error, 200)})") from error
    features.check(spec, builder)
    return builder


def _prepared(
    spec: Spec, builder: Any, manual_dir: Path, paths: Mapping[str, Path]
) -> Any:
    with _turn_to_prepare(builder):
        # Another process may have prepared it while this one waited.
        if not is_prepared(builder):
            for name, archive in archives.archives_of(builder).items():
                archives.check(spec, manual_dir / name, archive)
            say(f"preparing {spec.name} in {builder.data_dir_root}")
            prepared_from = origins.state(paths)
            with _nothing_half_prepared(builder):
                _download_and_prepare(spec, builder, manual_dir)
            origins.write(Path(builder.data_dir), prepared_from)
    return find_builder(spec, str(builder.data_dir_root))


def find_builder(spec: Spec, data_dir: str) -> Any:
    """Return the TFDS builder, whether or not its set is prepared.

    Raises:
        InputError: if ``data_dir`` is the set's own folder, or if what TFDS has written
            there is damaged.
    """
    if spec.module:
        try:
            importlib.import_module(spec.module)
        except Exception as error:
            # It is a person's own file.
            cure = "mend it"
            if isinstance(error, ImportError):
                cure = "start where it lies, or set PYTHONPATH"
            raise InputError(
                f"{spec.module}, the module of {spec.name} in its Spec, cannot be "
                f"imported ({type(error).__name__}: {one_line(error, 200)}): {cure}"
            ) from error
    for folder in (Path(data_dir), Path(data_dir).parent) if data_dir else ():
        # TFDS would prepare a second copy inside.
        if folder.name == spec.name and any(folder.glob("*/dataset_info.json")):
            raise InputError(
                f"data_dir {data_dir} is the folder of {spec.name} itself: give the "
                f"one that holds it, --config.data.data_dir={folder.parent}"
            )
    try:
        with quiet.no_chatter():
            config = _builder_config(spec, tfds.builder_cls(spec.name))
            return tfds.builder(spec.name, config=config, data_dir=data_dir or None)
    except InputError:
        raise
    except registered.DatasetNotFoundError as error:
        raise InputError(
            f"TFDS has no builder called {spec.name}: the module of its Spec must "
            "define or import it"
        ) from error
    except Exception as error:
        # TFDS and protobuf raise whatever the damaged byte leads to.
        cause = one_line(error, 200)
        root = Path(data_dir or constants.DATA_DIR, spec.name)
        if not any(root.glob("**/dataset_info.json")):
            raise InputError(
                f"TFDS cannot make the builder of {spec.name} ({cause}): mend its class"
            ) from error
        raise InputError(
            f"{spec.name} in {root.parent} cannot be read ({cause}): where its "
            "dataset_info.json is damaged, delete its folder and prepare it again"
        ) from error


def _builder_config(spec: Spec, builder: Any) -> Any:
    """Return the config of a builder that has several; None of one that has none."""
    fields = spec.builder_config
    if not fields:
        return None
    if hasattr(builder, "CONFIG"):
        return builder.CONFIG(**fields)
    known = [config.name for config in builder.BUILDER_CONFIGS]
    if list(fields) != ["name"] or fields["name"] not in known:
        raise InputError(
            f"the Spec of {spec.name} has builder_config={shown(dict(fields))}: its "
            f"builder has {', '.join(known) or 'no configs'}; give one by its name"
        )
    return fields["name"]


def is_prepared(builder: Any) -> bool:
    """Return whether the set of a builder lies in its directory, complete."""
    with quiet.no_chatter():
        return builder.is_prepared()


def _download_and_prepare(spec: Spec, builder: Any, manual_dir: Path) -> None:
    quiet.import_tensorflow()
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        with quiet.no_chatter(), archives.staged(builder, manual_dir) as folder:
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(
                    manual_dir=str(folder),
                    extract_dir=str(_places(builder)[1]),
                    try_download_gcs=False,
                )
            )
    except download_manager.NonMatchingChecksumError as error:
        # Of what was downloaded; it says from where, what it is and what it should be.
        what = " ".join(str(error).split("To debug")[0].split())
        raise InputError(f"{spec.name} was downloaded damaged: {what}") from error
    except Exception as error:
        # All that TFDS may raise here is about the archives, the network or the disk.
        # TFDS adds lines of its own to what it passes on.
        cause = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{spec.name} cannot be prepared in {builder.data_dir_root}: {cause[0]}; "
            "mend that and start again, nothing half prepared is left"
        ) from error


@contextlib.contextmanager
def _nothing_half_prepared(builder: Any) -> Iterator[None]:
    """Remove what TFDS leaves when it fails, and say what a kill has left before.

    That stays: it may belong to a TFDS that runs without this package's lock.
    """
    before = _half_prepared(builder)
    for path in sorted(before):
        text = "%s was left when a program was killed: delete it, if no other prepares"
        logging.warning(f"{text} %s now", path, builder.name)
    try:
        yield
    except BaseException:
        for path in _half_prepared(builder) - before:
            shutil.rmtree(path, ignore_errors=True)
        for folder in _places(builder):
            with contextlib.suppress(OSError):  # something is in it
                while folder != Path(builder.data_dir_root):
                    folder.rmdir()
                    folder = folder.parent
        raise


def _half_prepared(builder: Any) -> set[Path]:
    """Return what TFDS has begun to write, unpack and download for this set."""
    written, unpacked, downloaded = _places(builder)
    return {
        *written.glob("incomplete.*/"),
        *unpacked.glob("incomplete.*/"),
        *downloaded.glob("**/*.tmp.*/"),
    }


def _places(builder: Any) -> tuple[Path, Path, Path]:
    """Return where TFDS writes, unpacks and downloads: this set alone, as it locks."""
    name, downloads = builder.name, Path(builder.data_dir_root, "downloads")
    return (
        Path(builder.data_dir).parent,
        downloads / "extracted" / name,
        downloads / name,
    )


@contextlib.contextmanager
def _turn_to_prepare(builder: Any) -> Iterator[None]:
    """Let one process at a time prepare a set, of all that see the same disk.

    Two that do so at once raise FileExistsError. The others wait, were it hours, by
    asking again and again, so that a signal ends it. (A barrier would not do: JAX's on
    CPU gives up after 30 seconds, and another run may be the one that prepares.) A disk
    that knows no locks leaves the work to process 0.
    """
    root = Path(builder.data_dir_root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = files.open_lock(root / f".{builder.name}.lock")
    except OSError as error:
        raise InputError(
            f"cannot write to data_dir {root}: {error.strerror} ({error.filename}); "
            f"{ANOTHER}"
        ) from error
    with lock:
        try:
            said = False
            while owner := files.take_lock(lock):
                if not said:
                    text = "waiting for %s, which prepares %s in %s"
                    logging.warning(text, owner, builder.name, root)
                said = True
                time.sleep(POLL_SECONDS)
        except OSError as error:
            logging.warning(
                "the file system of %s has no locks (%s): see to it that no other run "
                "prepares %s at the same time",
                root,
                error.strerror,
                builder.name,
            )
            while jax.process_index() != 0 and not is_prepared(builder):
                time.sleep(POLL_SECONDS)
        yield
