"""A picture of any kind as the 8-bit RGB that a network sees; Pillow decodes them."""

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from optnet_jax.errors import InputError, named, one_line

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Pillow's name of pixels of as many channels, of 8 bits each."""


def load(source: str | Path | Image.Image, name: str = "") -> Image.Image:
    """Read a picture as it looks on white paper, upright.

    Its EXIF orientation is applied, a palette looked up, what is transparent laid over
    white; CMYK becomes RGB, grey three equal channels, 16 bits of grey the nearest of
    256 levels. Of an animation it is the first frame.

    Args:
        source: a file of any format that Pillow reads, or an image of Pillow.
        name: what a message calls it; by default its path.

    Returns:
        The picture, mode "RGB".

    Raises:
        InputError: if it cannot be read, naming it and the cause.
    """
    try:
        if isinstance(source, Image.Image):
            return _upright_rgb(source)
        if os.path.exists(source) and not os.path.isfile(source):
            raise ValueError("it is no file")  # a pipe would keep its reader waiting
        if not os.path.getsize(source):
            raise ValueError("it is empty")
        with warnings.catch_warnings(action="ignore"), Image.open(source) as image:
            return _upright_rgb(image)
    except Exception as error:
        # Pillow raises whatever the damaged byte leads to.
        if isinstance(error, UnidentifiedImageError):
            cause = "of no format that Pillow knows"
        else:
            cause = getattr(error, "strerror", None) or one_line(error, 100)
        raise InputError(
            f"{named(name or source)} is not a readable picture ({cause})"
        ) from error


def _upright_rgb(image: Image.Image) -> Image.Image:
    if not all(image.size):
        raise ValueError("it has no pixels")
    # Asked now: what is turned has no format. A PGM is of 16 bits, however dark it is.
    either = image.mode == "I" and image.format != "PPM"
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image), either)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB")


def _eight_bits(levels: np.ndarray, either: bool) -> np.ndarray:
    """Return 16 bits of grey as 8: Pillow's own conversion cuts them off at 255.

    Args:
        levels: [H, W].
        either: whether they may be 8 bits as well.

    Raises:
        ValueError: if they are neither, or if nothing tells which they are.
    """
    if levels.dtype.kind == "f" or levels.min() < 0 or levels.max() > 65535:
        raise ValueError("its numbers are not grey levels of 8 or 16 bits")
    if either and 0 < levels.max() <= 255:
        raise ValueError("its grey levels may be of 8 bits or of 16: save it as either")
    return np.rint(levels / 257).astype(np.uint8)


def within(picture: Image.Image, side: int) -> Image.Image:
    """Return a picture whose short side is ``side`` pixels at most."""
    short = min(picture.size)
    if short <= side:
        return picture
    width, height = (max(1, round(length * side / short)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR)
