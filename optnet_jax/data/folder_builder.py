"""``optnet_folder``: a folder of pictures as a TFDS dataset, a config for each folder.

Importing this module registers the builder. What it prepares is decoded, upright RGB:
the central square at the network's size, or, of a set to be streamed, JPEGs that are no
larger than random crops have a use for. The training pictures' mean and deviation, and
how many of them are tested on, too, are in its metadata.
"""

import dataclasses
import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from optnet_jax.data import pictures
from optnet_jax.data.folder import Folder, Picture
from optnet_jax.data.preprocessing import Preprocessing
from optnet_jax.errors import InputError, named, one_line

NAMED = 3
"""Unreadable files that a message names."""


@dataclasses.dataclass(eq=False)
class FolderConfig(tfds.core.BuilderConfig):
    """A folder, at one size.

    Attributes:
        found: its classes and pictures.
        size: side of the network's input, in pixels.
        streamed: whether whole pictures are kept, to be cropped while they are read.
    """

    found: Folder | None = None
    size: int = 0
    streamed: bool = False


class OptnetFolder(tfds.core.GeneratorBasedBuilder):
    """Pictures of a folder, a class in each of its folders."""

    VERSION = tfds.core.Version("1.0.0")
    CONFIG = FolderConfig
    builder_config: Any

    def _info(self) -> Any:
        config = self.builder_config
        side = None if config.streamed else config.size
        return tfds.core.DatasetInfo(
            builder=self,
            description="Pictures of a folder, a class in each of its folders.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(side, side, 3),
                        encoding_format="jpeg" if config.streamed else "png",
                    ),
                    "label": tfds.features.ClassLabel(names=list(config.found.classes)),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # Nothing to download.
        found = self.builder_config.found
        self._trained_on: set[bytes] = set()
        return {
            "train": self._generate_examples(found.train, measure=True),
            "test": self._generate_examples(found.test),
        }

    def _generate_examples(
        self, files: Sequence[Picture], measure: bool = False
    ) -> Iterator[tuple[bytes, dict[str, Any]]]:
        config, metadata = self.builder_config, cast(Any, self.info.metadata)
        unreadable, twice, moments = [], [], np.zeros((2, 3))
        # That of evaluation and prediction, whose mean and deviation are measured here.
        fit = Preprocessing((config.size, config.size, 3), (0.0,) * 3, (1.0,) * 3).fit
        for file in files:
            path = config.found.root / file.path
            try:
                picture = pictures.load(path)
                seen = fit(np.asarray(picture))
                image = _encoded(picture, seen, config)
            except InputError as error:
                unreadable.append(str(error))
                continue
            except OSError as error:  # a JPEG has 65,500 pixels at a side at most
                unreadable.append(f"{named(path)} is too large ({one_line(error)})")
                continue
            digest = hashlib.sha256(image).digest()
            if measure:
                self._trained_on.add(digest)
                pixels = seen.astype(np.float64).reshape(-1, 3) / 255
                moments += [pixels.mean(0), (pixels**2).mean(0)]
            elif digest in self._trained_on:
                twice.append(file.path)
            name = file.path.encode(errors="surrogateescape")
            yield (
                name,
                {
                    "image": image,
                    "label": file.label,
                    "file_name": name,
                },
            )
        if unreadable:
            more = len(unreadable) - NAMED
            some = unreadable[:NAMED] + ([f"and {more} more"] if more > 0 else [])
            raise InputError("; ".join(some))
        if measure:
            mean, square = moments / len(files)
            variance = square - mean**2
            # Rounding leaves 1e-17 of a channel that is the same everywhere.
            std = np.sqrt(np.where(variance > 1e-9, variance, 0))
            metadata.update(mean=mean.tolist(), std=std.tolist())
        elif twice:
            metadata.update(tested_and_trained_on=[len(twice), twice[0]])


def _encoded(picture: Any, seen: np.ndarray, config: FolderConfig) -> bytes:
    file = io.BytesIO()
    if config.streamed:
        kept = pictures.within(picture, 2 * config.size)
        kept.save(file, "JPEG", quality=95)
    else:
        Image.fromarray(seen).save(file, "PNG", compress_level=1)
    return file.getvalue()
