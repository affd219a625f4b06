"""Classes and probabilities of some images."""

import dataclasses
from typing import Annotated

import numpy as np

from optnet_jax.kinds import Range, convert


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a network makes of some images.

    Attributes:
        sources: What each image is called: its file, or "image" and its index.
        class_names: What the classes are called, in the order of their labels.
        probabilities: Float32 [N, number of classes], the softmax of the logits.
    """

    sources: tuple[str, ...]
    class_names: tuple[str, ...]
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def labels(self) -> np.ndarray:
        """The most probable class of each image, int [N]."""
        return self.probabilities.argmax(-1)

    @property
    def names(self) -> list[str]:
        """The name of the most probable class of each image."""
        return [self.class_names[label] for label in self.labels]

    def top(self, count: int = 3) -> list[list[tuple[str, float]]]:
        """Return the most probable classes of each image, the most probable first.

        Args:
            count: How many, or all if there are fewer.

        Returns:
            For each image pairs of a name and a probability.

        Raises:
            InputError: if it is no number of classes.
        """
        count = convert(count, Annotated[int, Range(least=1)], "count")
        order = np.argsort(-self.probabilities, axis=-1, kind="stable")[:, :count]
        return [
            [(self.class_names[label], float(row[label])) for label in labels]
            for row, labels in zip(self.probabilities, order, strict=True)
        ]

    def __str__(self) -> str:
        """Return a line for each image: what it is called, and three classes."""
        width = max(map(len, self.sources), default=0)
        return "\n".join(
            "  ".join(
                [source.ljust(width), *(f"{name} {100 * p:.1f} %" for name, p in top)]
            )
            for source, top in zip(self.sources, self.top(), strict=True)
        )
