"""The images that the small networks of a study are trained and tested on."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax import data
from optnet_jax.configuration.train import Data
from optnet_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Images:
    """What all cells are trained and tested on.

    Attributes:
        batches: images [steps, B, pixels] and labels [steps, B].
        test: images [N, pixels] and labels [N].
        classes: how many.
        fingerprint: of the data set.
    """

    batches: tuple[jax.Array, jax.Array]
    test: tuple[jax.Array, jax.Array]
    classes: int
    fingerprint: str = ""


@dataclasses.dataclass(frozen=True)
class OnImages:
    """The function that measures a cell on images, and what these are.

    Attributes:
        measure: a cell -> its row.
        fingerprint: of the data set.
    """

    measure: Callable[[Any], dict[str, Any]]
    fingerprint: str

    def __call__(self, cell: Any) -> dict[str, Any]:
        """Measure a cell."""
        return self.measure(cell)


def load(config: Data, seed: int, steps: int) -> Images:
    """Return the images, flat, those of each step of training included.

    Raises:
        InputError: an augmentation that is a part of a training run's step.
    """
    for name in ("trivial_augment", "erase", "mixup", "cutmix"):
        if getattr(config, name):
            raise InputError(
                f"config.data.{name} is for training runs, a study does without: leave "
                "it out"
            )
    dataset = data.load(config, seed=seed)
    first = itertools.islice(dataset.train_batches(), steps)
    batches = [(_flat(b["image"]), np.asarray(b["label"])) for b in first]
    kept = [(b, np.asarray(b["mask"]) > 0) for b in dataset.eval_batches()]
    test = [(_flat(b["image"])[m], np.asarray(b["label"])[m]) for b, m in kept]
    images, labels = (jnp.asarray(np.stack(e)) for e in zip(*batches, strict=True))
    last, of_last = (jnp.asarray(np.concatenate(e)) for e in zip(*test, strict=True))
    return Images(
        (images, labels), (last, of_last), dataset.num_classes, dataset.fingerprint
    )


def _flat(images: Any) -> np.ndarray:
    return np.asarray(images).reshape(len(images), -1)
