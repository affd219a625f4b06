"""Images of whatever form, as a data set stores them: uint8, of its size and channels.

Files and images of Pillow become pixels as those of a folder that is trained on do; see
:mod:`optnet_jax.data.pictures`.
"""

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from optnet_jax.configuration import local_path
from optnet_jax.data import pictures
from optnet_jax.data.folder import SUFFIXES
from optnet_jax.data.preprocessing import Preprocessing
from optnet_jax.errors import InputError, one_line, shown
from optnet_jax.runs.files import readable, visible


class Source(NamedTuple):
    """Where an image comes from: what it is called, and its file or its value."""

    name: str
    image: Any


def sources(images: Any, channels: int) -> list[Source]:
    """Tell images apart, before any is read.

    Args:
        images: As of :meth:`.Trained.predict`; a folder has files at any depth. Of
            three axes the last is that of the channels if its length is at most 4, or
            that of the data set's.
        channels: Those of the data set.

    Returns:
        The images one by one; the files of a folder in the order of their names. What
        is no file is called by its place among all of them.

    Raises:
        InputError: if there is none, or if something is no image.
    """
    found = _sources(images, channels, "image", 0)
    if not found:
        raise InputError("there are no images: give one at least")
    return found


def _sources(images: Any, channels: int, name: str, place: int) -> list[Source]:
    if isinstance(images, str | os.PathLike):
        return [Source(str(file), file) for file in _files(local_path(images, name))]
    if isinstance(images, Image.Image):
        return [Source(name, images)]
    if isinstance(images, io.IOBase):
        raise InputError(f"{name} is an open file: give its path, or PIL.Image.open it")
    if isinstance(images, Iterator):
        with readable(": give read permission, or leave it out"):
            images = list(images)
    if isinstance(images, Sequence) and not isinstance(images, bytes):
        if images and all(isinstance(item, int | float) for item in images):
            raise InputError(f"{name} is a row of numbers, and no image [H, W]")
        found = []
        for item in images:
            at = place + len(found)
            found += _sources(item, channels, f"image {at}", at)
        return found
    array = _array(images, name)
    known = (*pictures.MODES, channels)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in known):
        return [Source(name, array)]
    if array.ndim not in (3, 4):
        raise InputError(
            f"{name} has shape {array.shape}: give [H, W], [H, W, C] or a batch"
        )
    return [Source(f"image {at}", one) for at, one in enumerate(array, place)]


def _array(image: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(image)
    except Exception as error:  # a foreign __array__ raises what it likes
        raise InputError(f"{name} is no array ({one_line(error)})") from error
    if array.dtype.kind not in "buif" and array.dtype.name != "bfloat16":
        of = f"an array of {array.dtype}" if array.ndim else shown(image)
        raise InputError(
            f"{name} is {of}: give a path, an image of Pillow, or an array of numbers"
        )
    if np.ma.is_masked(image):
        raise InputError(
            f"{name} has pixels that are masked, and the network sees all: give them "
            "values, as by images.filled(0)"
        )
    return array


def _files(path: Path) -> list[Path]:
    if not os.path.isdir(path):
        return [path]

    with readable(": give read permission, or name another folder"):
        files = [f for f in visible(path) if f.name.lower().endswith(SUFFIXES)]
    if not files:
        raise InputError(
            f"there is no image in the folder {path}: their names end in "
            f"{', '.join(SUFFIXES)}"
        )
    return sorted(files)


def read(source: Source, preprocessing: Preprocessing) -> np.ndarray:
    """Return one image as evaluation has it before it is normalised.

    Args:
        source: Of :func:`sources`.
        preprocessing: That of the data set.

    Returns:
        uint8 of the data set's shape.

    Raises:
        InputError: naming the image, if it cannot be read or has other channels or
            values than an image.
    """
    channels = preprocessing.image_shape[2]
    name, image = source
    if isinstance(image, np.ndarray):
        pixels = _bytes(image, name)
        if pixels.shape[2] == channels:
            return preprocessing.fit(pixels)
        if pixels.shape[2] not in pictures.MODES:
            raise InputError(
                f"{name} has {pixels.shape[2]} channels: an image has 1 to 4"
            )
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if channels not in (1, 3):
        raise InputError(
            f"{name} cannot be given {channels} channels: give an array that has them"
        )
    picture = pictures.load(image, name).convert(pictures.MODES[channels])
    pixels = np.asarray(picture).reshape(picture.height, picture.width, channels)
    return preprocessing.fit(pixels)


def _bytes(array: np.ndarray, name: str) -> np.ndarray:
    """Bring an array to bytes, [H, W, C]; a float is a share of white."""
    array = array[..., None] if array.ndim == 2 else array
    if not array.size:
        raise InputError(f"{name} has shape {array.shape}: it has no pixels")
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array * np.uint8(255)
    least, most = array.min(), array.max()
    whole = array.dtype.kind in "ui"
    white = 255 if whole else 1
    if not (least >= 0 and most <= white):  # NaN is neither
        kind = "whole numbers" if whole else "floats"
        raise InputError(
            f"{name} has {kind} from {least} to {most}: bring them to an image's, "
            "uint8 from 0 to 255 or floats from 0 to 1"
        )
    if whole:
        return array.astype(np.uint8)
    return np.round(array.astype(np.float32) * 255).astype(np.uint8)
