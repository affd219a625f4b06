"""Where every figure is written: whole, and never through a link."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from optnet_jax import files

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
    return files.write_output(
        file,
        lambda stream: figure.savefig(stream, dpi=dpi, format=format_),
        "choose another place for it",
    )
