"""The fields of ``config.data``."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from optnet_jax.data.spec import get_spec
from optnet_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Options:
    """What a config says about the data; the defaults stand for absent fields.

    Attributes:
        dataset: a name of :data:`optnet_jax.data.SPECS`.
        data_dir: where prepared sets lie; empty for TFDS's default
            (``$TFDS_DATA_DIR``, or ``~/tensorflow_datasets``).
        batch_size: images of a step, over all processes together.
        augment: random crops and, where the dataset's entry says so, mirror images.
    """

    dataset: str = "optnet_digits"
    data_dir: str = ""
    batch_size: int = 64
    augment: bool = False

    def __post_init__(self) -> None:
        get_spec(self.dataset)
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
