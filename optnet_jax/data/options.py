"""The fields of ``config.data``."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from optnet_jax.data.spec import get_spec
from optnet_jax.errors import InputError

CROPS = ("random_resized", "fixed")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a config says about the data; the defaults stand for absent fields.

    Attributes:
        dataset: a name of :data:`optnet_jax.data.SPECS`.
        data_dir: where prepared sets lie; empty for TFDS's default
            (``$TFDS_DATA_DIR``, or ``~/tensorflow_datasets``).
        batch_size: images of a step, over all processes together.
        augment: random crops and, where the dataset's entry says so, mirror images.
        crop: how a streamed set is cropped with augmentation: "random_resized" (8 to
            100 % of the area, as the authors of DenseNet trained) or "fixed" (short
            side resized, then a random square: §7.1 to the letter).
        image_size: side of the network's input for a streamed set; 0 for the
            dataset's own (224 for ImageNet).
        shuffle_buffer: undecoded records of a streamed set that are shuffled at a time,
            over all processes together (10,000 of ImageNet's take 1.1 GB).
        skip_corrupt: whether a streamed set leaves unreadable images and records out
            and counts them; otherwise the first one ends the run.
    """

    dataset: str = "optnet_digits"
    data_dir: str = ""
    batch_size: int = 64
    augment: bool = False
    crop: str = "random_resized"
    image_size: int = 0
    shuffle_buffer: int = 10_000
    skip_corrupt: bool = False

    def __post_init__(self) -> None:
        spec = get_spec(self.dataset)
        if self.crop not in CROPS:
            raise InputError(
                f"data.crop={self.crop!r} is not known; it is {' or '.join(CROPS)}"
            )
        if self.image_size < 0 or (self.image_size and not spec.streamed):
            raise InputError(
                f"data.image_size={self.image_size} cannot be had of {self.dataset}; "
                "leave it 0"
            )
        if self.shuffle_buffer < 1:
            raise InputError(
                f"data.shuffle_buffer is {self.shuffle_buffer}; it must be at least 1"
            )
        if self.batch_size < 1:
            raise InputError(
                f"data.batch_size is {self.batch_size}; it must be at least 1"
            )


def options_from(config: Mapping[str, Any]) -> Options:
    """Reads ``config.data``.

    Args:
        config: a mapping, such as an ``ml_collections.ConfigDict``.

    Returns:
        The options.

    Raises:
        InputError: if a field is unknown or a value is out of range.
    """
    known = [field.name for field in dataclasses.fields(Options)]
    for name in config:
        if name not in known:
            raise InputError(
                f"data.{name} is not an option; the options are {', '.join(known)}"
            )
    return Options(**config)
