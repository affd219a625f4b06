"""``config.data``, held against the dataset that it names."""

from typing import Any

from optnet_jax.configuration.train import Data as Options
from optnet_jax.data import folder
from optnet_jax.data.spec import Spec, get_spec
from optnet_jax.errors import InputError, shown

__all__ = ["Options", "options_from", "spec_of"]


def options_from(config: Any) -> Options:
    """Read ``config.data``.

    Raises:
        InputError: if a field is unknown, a value is out of range, or the dataset has
            not what is asked for.
    """
    options = Options.of(config)
    spec_of(options)
    return options


def spec_of(options: Options) -> Spec:
    """Return the dataset that is named, at the size that is asked for.

    Raises:
        InputError: if there is no such dataset, if it is not resized, or if the folder
            that it is does not hold one.
    """
    if options.dataset == folder.NAME:
        return folder.spec_of(options.folder, options.image_size)
    spec = get_spec(options.dataset)
    if options.folder:
        raise InputError(
            f"data.folder={shown(options.folder)} is not what "
            f"data.dataset={spec.name} reads: leave it empty, or set "
            f"--config.data.dataset={folder.NAME}"
        )
    if not options.image_size:
        return spec
    if not spec.streamed:
        raise InputError(
            f"data.image_size={options.image_size} cannot be had of {options.dataset}; "
            "leave it 0"
        )
    return spec.with_image_size(options.image_size)
