"""A set that another version of its builder has prepared.

TFDS raises the version of a builder now and then: what was prepared before, hours of
work in ImageNet's case, lies in another folder, which describes itself.
"""

from pathlib import Path
from typing import Any

from absl import logging

from optnet_jax.data import features, quiet
from optnet_jax.data.spec import Spec
from optnet_jax.errors import InputError, one_line


def another(
    spec: Spec, builder: Any, *, supported_only: bool = False
) -> tuple[Any, list[str]]:
    """Find the newest other version that can be read, and say which one it is.

    Args:
        spec: the dataset.
        builder: its TFDS builder, of the version that is not prepared.
        supported_only: whether only a version will do that the builder's author takes
            for as good as the newest.

    Returns:
        The ``tfds.core.DatasetBuilder``, or None; and why versions that are there are
        of no use.
    """
    faults = []
    for folder in _folders(builder):
        if supported_only and folder.name not in map(str, builder.versions):
            continue
        try:
            found = _read(spec, folder)
        except InputError as error:
            faults.append(f"its version {folder.name} there is of no use: {error}")
            continue
        logging.warning(
            "%s %s is not prepared: using %s", spec.name, builder.version, folder
        )
        return found, faults
    return None, faults


def _folders(builder: Any) -> list[Path]:
    """Return the folders of other versions, newest first, none half prepared."""
    version = quiet.import_tfds().core.Version
    folders = Path(builder.data_dir).parent.glob("*/")
    return sorted(
        (folder for folder in folders if version.is_valid(folder.name)),
        key=lambda folder: version(folder.name),
        reverse=True,
    )


def _read(spec: Spec, folder: Path) -> Any:
    try:
        with quiet.no_chatter():
            builder = quiet.import_tfds().builder_from_directory(folder)
    except Exception as error:
        # TFDS and protobuf raise whatever is missing or damaged leads to.
        raise InputError(f"{folder} cannot be read ({one_line(error, 200)})") from error
    features.check(spec, builder)
    return builder
