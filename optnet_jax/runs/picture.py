"""Where every figure is written: whole, and never through a link."""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from optnet_jax.errors import InputError
from optnet_jax.runs import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: "Figure", file: Path, dpi: int) -> Path:
    """Write a figure, in the format of the file's ending; its folder is made, too.

    Raises:
        InputError: if it cannot be written, or in no such format.
    """
    format_ = file.suffix.removeprefix(".").lower() or "png"
    known = figure.canvas.get_supported_filetypes()
    if format_ not in known:
        raise InputError(
            f"{file} is no picture: its name must end in {', '.join(known)}"
        )
    drawn = io.BytesIO()
    # Not into the file: Pillow does not say that the disk is full.
    with warnings.catch_warnings():
        # A letter that the font lacks is seen to be a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(drawn, dpi=dpi, format=format_)
    return files.write_output(
        file, drawn.getvalue(), "make room or choose another place for it"
    )
