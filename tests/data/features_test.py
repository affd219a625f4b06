import dataclasses
import hashlib
import json

import numpy as np
import pytest

from optnet_jax import data
from optnet_jax.data import features, memory, quiet, source
from optnet_jax.data.options import Options

tfds = quiet.import_tfds()


class OptnetWords(tfds.core.GeneratorBasedBuilder):
    """Three images, whose labels have names; a number is not a class."""

    VERSION = tfds.core.Version("1.0.0")
    names = ("cat", "dog")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(2, 2, 1)),
                    "label": tfds.features.ClassLabel(names=list(self.names)),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "test": self._generate_examples()}

    def _generate_examples(self):
        for index in range(3):
            image = np.full((2, 2, 1), index, np.uint8)
            yield index, {"image": image, "label": index % 2}


def words(directory, **changes):
    builder = OptnetWords(data_dir=str(directory))
    with quiet.no_chatter():
        builder.download_and_prepare()
    return builder


def test_names_of_the_classes(tmp_path):
    assert features.class_names(OptnetWords(data_dir=str(tmp_path))) == ("cat", "dog")
    digits = source.find_builder(data.get_spec("optnet_digits"), str(tmp_path))
    assert features.class_names(digits) == tuple("0123456789")


def test_a_fingerprint_is_of_what_the_set_is_and_not_of_its_place(
    tmp_path, monkeypatch
):
    first = features.fingerprint(words(tmp_path / "a"))
    assert features.fingerprint(words(tmp_path / "b")) == first
    monkeypatch.setattr(OptnetWords, "names", ("cat", "cow"))
    assert features.fingerprint(words(tmp_path / "c")) != first


def in_memory(train, **changes):
    spec = dataclasses.replace(data.get_spec("optnet_digits"), num_classes=3)
    return memory.MemoryDataset(
        spec, Options(batch_size=2), train, train, seed=0, version="7", **changes
    )


def test_the_description_of_a_set_is_json():
    images = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8, 1)
    labels = np.array([0, 1, 2], np.int32)
    found = in_memory(memory.Split(images, labels)).description()
    assert json.loads(json.dumps(found)) == found
    content = b""
    for _ in range(2):
        content += b"|u1(3, 8, 8, 1)" + images.tobytes()
        content += b"<i4(3,)" + labels.tobytes()
    assert found["fingerprint"] == hashlib.sha256(content).hexdigest()
    assert found["class_names"] == ["0", "1", "2"]
    assert (found["version"], found["image_shape"]) == ("7", [8, 8, 1])


@pytest.mark.parametrize("change", ["pixel", "label", "order"])
def test_one_pixel_one_label_or_another_order_is_another_set(change):
    images = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8, 1)
    labels = np.array([0, 1, 2], np.int32)
    first = in_memory(memory.Split(images, labels)).fingerprint
    images, labels = images.copy(), labels.copy()
    if change == "pixel":
        images[1, 2, 3] += 1
    elif change == "label":
        labels[1] = 0
    else:
        images, labels = images[::-1], labels[::-1]
    assert in_memory(memory.Split(images, labels)).fingerprint != first
    # Where the rows lie in memory is nothing of the set's own.
    copy = memory.Split(np.asfortranarray(images), np.asfortranarray(labels))
    assert in_memory(copy).fingerprint == (
        in_memory(memory.Split(images, labels)).fingerprint
    )
