"""Where every figure is written: whole, and never through a link."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from optnet_jax import files
from optnet_jax.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: Figure, file: Path, dpi: int) -> Path:
    """Write a figure; its folder is made where it is missing.

    Args:
        figure: What to write.
        file: Where; its ending decides the format.
        dpi: Dots per inch.

    Returns:
        The file.

    Raises:
        InputError: if it cannot be written.
    """
    format_ = file.suffix.removeprefix(".") or "png"
    try:
        files.make_folder(file.parent)
        files.write_durably(
            file, lambda stream: figure.savefig(stream, dpi=dpi, format=format_)
        )
    except OSError as error:
        raise InputError(
            f"{file} cannot be written ({error.strerror}): choose another --workdir=DIR"
        ) from error
    return file
