"""A set as arrays: how its splits are read into memory, and what they must be."""

import hashlib
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from optnet_jax.data import quiet
from optnet_jax.data.spec import Spec
from optnet_jax.errors import InputError


class Split(NamedTuple):
    """The images of a split: uint8 [N, H, W, C], and their labels: int [N]."""

    images: np.ndarray
    labels: np.ndarray


def read_split(builder: Any, split: str) -> Split:
    """Read a whole split of a prepared TFDS builder, always in the same order.

    Raises:
        InputError: if a record cannot be read, or if the images have unequal sizes.
    """
    return _read_plain(builder, split) or _read_with_tensorflow(builder, split)


def _read_plain(builder: Any, split: str) -> Split | None:
    """Read a split of PNG images without TensorFlow; None of any other, or damaged."""
    # Not above: arrays of one's own need no TFDS, whose import takes a second.
    import tensorflow_datasets as tfds

    from optnet_jax.data import examples, features

    image = builder.info.features["image"]
    if not issubclass(type(image), tfds.features.Image):
        return None
    try:
        files = features.files_of(builder, split)
        return Split(*examples.read(*files, image.shape[-1]))
    except PermissionError as error:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}): give read permission"
        ) from error
    except Exception as error:
        # Whatever it is: TensorFlow reads it, or finds what is wrong.
        logging.debug("%s is read with TensorFlow: %s", builder.name, error)
        return None


def _read_with_tensorflow(builder: Any, split: str) -> Split:
    import tensorflow_datasets as tfds

    tf = quiet.import_tensorflow()
    from optnet_jax.data import features, records

    images, labels = [], []
    try:
        with quiet.no_chatter():
            dataset = builder.as_dataset(
                split,
                read_config=tfds.ReadConfig(
                    interleave_cycle_length=1, try_autocache=False
                ),
                decoders=tfds.decode.PartialDecoding({"image": True, "label": True}),
            )
            for example in tfds.as_numpy(dataset):
                images.append(example["image"])
                labels.append(example["label"])
    except (ImportError, NotImplementedError):
        features.files_of(builder, split)  # says that their format is the cause
        raise
    except tf.errors.OpError as error:
        file = records.damaged_file(builder, split)
        fault = records.describe(file) if file else error.message.splitlines()[0]
        raise InputError(
            f"{Path(file or builder.data_dir).name} of {builder.name} in "
            f"{builder.data_dir} is damaged ({fault}); delete that directory and "
            "prepare the set again"
        ) from error
    for row, image in enumerate(images):
        if image.shape != images[0].shape:
            raise InputError(
                f"image {row} of the {split} split of {builder.name} has shape "
                f"{image.shape}, the first {images[0].shape}: resize them to one size "
                "before the set is prepared, or read it with streamed=True in its Spec"
            )
    return Split(np.stack(images), np.asarray(labels))


def checked(spec: Spec, name: str, split: Split) -> Split:
    """Refuse arrays that are not what the dataset's entry in the table says.

    Raises:
        InputError: naming the value and its place.
    """
    try:
        images, labels = map(np.asarray, split)
    except ValueError as error:
        raise InputError(
            f"the {name} split of {spec.name} is no array ({error}): its images must "
            "have one size"
        ) from error
    where = f"of the {name} split of {spec.name}"
    if images.dtype != np.uint8:
        raise InputError(
            f"the images {where} are {images.dtype}; they must be uint8, 0 to 255"
        )
    if images.shape[1:] != spec.image_shape:
        said = ("N", *spec.image_shape)
        raise InputError(
            f"the images {where} have shape {images.shape}, its Spec says "
            f"{said}: change one of them".replace("'", "")
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise InputError(
            f"the labels {where} are {labels.dtype} of shape {labels.shape}; they must "
            "be one integer for each image"
        )
    if len(images) != len(labels):
        raise InputError(
            f"there are {len(images)} images and {len(labels)} labels "
            f"{where}: each image needs one label"
        )
    if not len(images):
        raise InputError(f"{where.removeprefix('of ')} is empty")
    for row in np.flatnonzero((labels < 0) | (labels >= spec.num_classes)):
        raise InputError(not_a_class(spec, labels[row], f"image {row} {where}"))
    return Split(images, labels.astype(np.int32))


def not_a_class(spec: Spec, label: Any, what: str) -> str:
    """Say that a label is none, in one line."""
    unknown = " (TFDS's mark of a missing label)" if label == -1 else ""
    return (
        f"the label of {what} is {label}{unknown}; with num_classes={spec.num_classes} "
        f"in its Spec they are 0 to {spec.num_classes - 1}"
    )


def fingerprint(*splits: Split) -> str:
    """Return a digest of every pixel and label of some splits, in their order."""
    digest = hashlib.sha256()
    for array in itertools.chain(*splits):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
