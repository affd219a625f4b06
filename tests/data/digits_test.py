import hashlib

import numpy as np
from sklearn import datasets

from optnet_jax import data
from optnet_jax.data import arrays, digits


def test_split_is_the_published_one():
    train, test = digits.train_test_indices()
    assert (len(train), len(test)) == (data.SPECS["optnet_digits"].num_train, 360)
    np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(1797))
    # Change it only with a new version of the dataset: results would not compare.
    assert (
        hashlib.sha256(test.astype("<i4").tobytes()).hexdigest()
        == "0d494aca5d2a8043e065fbdb7c8002fd9d08376df02100f9223f4560739c3918"
    )


def test_every_record_is_its_row_of_load_digits(prepared_digits):
    raw = datasets.load_digits()
    seen = []
    for record in prepared_digits.as_dataset("train+test").as_numpy_iterator():
        index = int(record["index"])
        seen.append(index)
        assert record["label"] == raw.target[index]
        levels = record["image"][..., 0] * (16 / 255)
        np.testing.assert_allclose(levels, raw.images[index], rtol=0, atol=0.04)
    assert sorted(seen) == list(range(1797))


def test_statistics_are_those_of_the_training_split(prepared_digits):
    spec = data.get_spec("optnet_digits")
    pixels = arrays.read_split(prepared_digits, "train").images / 255
    np.testing.assert_allclose(spec.mean, pixels.mean((0, 1, 2)), rtol=1e-7)
    np.testing.assert_allclose(spec.std, pixels.std((0, 1, 2)), rtol=1e-7)
