"""``optnet_digits``: scikit-learn's handwritten digits as a TFDS dataset.

1,797 images of 8x8 pixels in 10 classes (the test part of the UCI set "Optical
recognition of handwritten digits"). They come with scikit-learn, so that a real run
needs no download. Importing this module registers the builder:
``tfds.load("optnet_digits")`` works afterwards.

Source: E. Alpaydin, C. Kaynak, UCI Machine Learning Repository (1998),
https://doi.org/10.24432/C50P49.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

NUM_TRAIN = 1437
NUM_TEST = 360
SPLIT_SEED = 0


def train_test_indices() -> tuple[np.ndarray, np.ndarray]:
    """Return the split: 1437 training and 360 test rows, classes in equal proportions.

    Returns:
        The row numbers in ``sklearn.datasets.load_digits()`` of both parts, sorted.
    """
    from sklearn import datasets, model_selection

    _, labels = datasets.load_digits(return_X_y=True)
    train, test = model_selection.train_test_split(
        np.arange(len(labels)),
        train_size=NUM_TRAIN,
        test_size=NUM_TEST,
        stratify=labels,
        random_state=SPLIT_SEED,
    )
    return np.sort(train), np.sort(test)


class OptnetDigits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits, 8x8 pixels, 1437 for training and 360 for testing."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Stratified split with seed 0."}

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "The 1,797 handwritten digits that come with scikit-learn. The 17 grey "
                "levels 0..16 are spread over 0..255. The split is stratified by class "
                f"and drawn with seed {SPLIT_SEED}."
            ),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                    # The row in load_digits(), to find a misread digit again.
                    "index": np.int32,
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://doi.org/10.24432/C50P49",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # Nothing to download.
        train, test = train_test_indices()
        return {
            "train": self._generate_examples(train),
            "test": self._generate_examples(test),
        }

    def _generate_examples(
        self, indices: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        from sklearn import datasets

        pixels, labels = datasets.load_digits(return_X_y=True)
        images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
        for index in indices.tolist():
            yield (
                index,
                {
                    "image": images[index],
                    "label": int(labels[index]),
                    "index": index,
                },
            )
