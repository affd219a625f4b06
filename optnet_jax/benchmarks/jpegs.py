"""A set in ImageNet's layout, of JPEGs that cost as much to decode as photographs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from optnet_jax.data import quiet

SHAPE = (375, 500, 3)
SYNSETS = ("n01440764", "n01443537", "n01484850")
DISTINCT, SHARDS = 32, 16


def photograph(rng: np.random.Generator) -> bytes:
    """Return a JPEG of smooth colours with noise, about 120 KB: an average one's size.

    Args:
      rng: for its pixels.
    """
    tf = quiet.import_tensorflow()
    colours = rng.integers(0, 256, (SHAPE[0] // 8, SHAPE[1] // 8, 3))
    smooth = tf.image.resize(colours, SHAPE[:2], "bicubic").numpy()
    pixels = np.clip(smooth + rng.normal(0, 14, SHAPE), 0, 255).astype(np.uint8)
    return tf.io.encode_jpeg(pixels, quality=90).numpy()


def prepare(folder: str | Path, count: int) -> Any:
    """Make both archives of ImageNet and let TFDS prepare them.

    Args:
      folder: data directory.
      count: training images; many are alike.

    Returns:
      The prepared ``tfds.core.DatasetBuilder``.
    """
    rng = np.random.default_rng(0)
    images = [photograph(rng) for _ in range(min(DISTINCT, count))]
    manual = Path(folder) / "downloads" / "manual"
    manual.mkdir(parents=True)
    with tarfile.open(manual / "ILSVRC2012_img_train.tar", "w") as archive:
        for first, synset in enumerate(SYNSETS):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as part:
                for i in range(first, count, len(SYNSETS)):
                    _add(part, f"{synset}_{i}.JPEG", images[i % len(images)])
            _add(archive, f"{synset}.tar", inner.getvalue())
    with tarfile.open(manual / "ILSVRC2012_img_val.tar", "w") as archive:
        for i in range(SHARDS):  # a split has a record in each of its files
            _add(archive, f"ILSVRC2012_val_{i + 1:08d}.JPEG", images[0])
    tfds = quiet.import_tfds()
    tfds.disable_progress_bar()
    with quiet.no_chatter():
        builder = tfds.builder("imagenet2012", data_dir=str(folder))
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=str(manual), num_shards=min(SHARDS, count)
            )
        )
    return builder


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
