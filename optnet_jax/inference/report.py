"""Predictions as a table, as CSV and as one picture: ``--mode=predict``."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from optnet_jax.errors import InputError
from optnet_jax.inference.predictions import Predictions
from optnet_jax.inference.trained import CURE, load_run
from optnet_jax.runs import picture, program
from optnet_jax.runs.files import write_output

MOST_DRAWN = 48
"""Images that the picture shows at most."""


def predict_files(
    workdir: Path, images: Sequence[str], checkpoint: str = "last"
) -> Predictions:
    """Classify image files by a run's checkpoint, and leave what was found.

    Args:
        workdir: Of the run; ``predictions.csv`` and ``plots/predictions.png`` go there.
        images: Files, and folders of them.
        checkpoint: As of :func:`~.trained.load_run`.

    Raises:
        InputError: if there is no sound run, or an image that cannot be read.
    """
    if not images:
        raise InputError("--mode=predict needs --images=FILE_OR_FOLDER, once or often")
    run = load_run(workdir, checkpoint)
    names, pixels = run.read(list(images))
    found = run.classified(names, pixels)
    program.tell(str(found))
    # A file's name need not be text, and stands there as it is on the disk.
    cure = f"the result stands above; {CURE}"
    content = _csv(found).encode(errors="surrogateescape")
    file = write_output(workdir / "predictions.csv", content, cure)
    program.tell(f"written: {file}")
    program.tell(f"drawn: {draw(found, pixels, workdir / 'plots' / 'predictions.png')}")
    return found


def _csv(found: Predictions) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", "class", "probability", *found.class_names])
    for source, name, row in zip(
        found.sources, found.names, found.probabilities, strict=True
    ):
        rows.writerow([source, name, f"{row.max():.6f}", *(f"{p:.6f}" for p in row)])
    return text.getvalue()


def draw(found: Predictions, pixels: np.ndarray, file: Path) -> Path:
    """Draw the images, as the network sees them, with their classes.

    Args:
        found: What a network says of them.
        pixels: The images, uint8 [N, H, W, C].
        file: Where to.
    """
    from matplotlib.figure import Figure

    shown = list(zip(pixels, found.top(1), strict=True))[:MOST_DRAWN]
    columns = min(8, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure((1.6 * columns, 1.9 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (image, [(label, probability)]) in zip(axes, shown, strict=False):
        axis.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=255)
        # A $ in a class's name begins no formula.
        axis.set_title(f"{label}\n{probability:.0%}", fontsize=8, parse_math=False)
    return picture.save(figure, file, 120)
