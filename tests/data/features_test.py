import dataclasses
import hashlib
import json
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from optnet_jax import data
from optnet_jax.configuration.train import Data as Options
from optnet_jax.data import features, memory, source
from optnet_jax.errors import InputError


def named(*names):
    label = tfds.features.ClassLabel(names=names)
    return {"image": tfds.features.Image(shape=(4, 4, 3)), "label": label}


def test_names_of_the_classes(own_set, tmp_path):
    config = own_set((0, 1, 0), features=named("cat", "dog"), num_classes=2)
    assert data.load(config, seed=0).class_names == ("cat", "dog")
    digits = source.find_builder(data.get_spec("optnet_digits"), str(tmp_path))
    assert features.class_names(digits) == tuple("0123456789")


def test_a_fingerprint_is_of_what_the_set_is_and_not_of_its_place(own_set, tmp_path):
    def prepared(place, names=("cat", "dog"), labels=(0, 1, 0)):
        own_set(labels, features=named(*names), num_classes=2)
        spec = data.get_spec("optnet_own")
        builder = source.prepared_builder(spec, str(tmp_path / place))
        return features.fingerprint(spec, builder)

    first = prepared("a")
    assert prepared("b") == first
    assert prepared("c", ("cat", "cow")) != first
    assert prepared("d", labels=(0, 1, 0, 1)) != first


@pytest.mark.parametrize(
    ("change", "spec", "message"),
    [
        (lambda f, t: f | {"image": t.Image(shape=(4, 4, 1))}, {}, "uint8 (4, 4, 1), "),
        (
            lambda f, t: f | {"image": t.Image(shape=(None, None, 4))},
            {"streamed": True},
            "are uint8 (None, None, 4), its Spec says uint8 (None, None, 3): change "
            "the one or the other (grey images have 1 channel, those with transparency "
            "4)",
        ),
        (
            lambda f, t: f | {"image": t.Image(shape=(4, 4, 3), dtype=np.uint16)},
            {},
            "are uint16 (4, 4, 3), its Spec says uint8 (4, 4, 3)",
        ),
        (
            lambda f, t: f | {"image": t.Tensor(shape=(4, 4, 3), dtype=np.uint8)},
            {"streamed": True},
            "are a Tensor: a streamed set needs tfds.features.Image",
        ),
        (lambda f, t: f, {"image_shape": (4, 5, 3)}, "its Spec says uint8 (4, 5, 3)"),
        (
            lambda f, t: f | {"label": t.Scalar(dtype=np.float32)},
            {},
            "they must be one integer for each image, best as tfds.features.ClassLabel",
        ),
        (
            lambda f, t: f | {"label": t.Sequence(t.ClassLabel(num_classes=2))},
            {},
            "they must be one integer for each image, best as",
        ),
        (
            lambda f, t: f,
            {"num_classes": 3},
            "has 2 classes, its Spec says num_cl",
        ),
        (
            lambda f, t: {"image": f["image"], "class": f["label"]},
            {},
            "has no feature 'label' but class, image: its builder must call them",
        ),
    ],
)
def test_what_is_declared_must_be_what_the_entry_says(
    own_set, tmp_path, change, spec, message
):
    declared = change(named("cat", "dog"), tfds.features)
    own_set([], features=declared, **{"num_classes": 2} | spec)
    entry = data.get_spec("optnet_own")
    builder = source.find_builder(entry, str(tmp_path))
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        features.check(entry, builder)
    assert "\n" not in str(caught.value)


IMAGES = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8, 1)
LABELS = np.array([0, 1, 2], np.int32)


def in_memory(images, labels):
    spec = dataclasses.replace(data.get_spec("optnet_digits"), num_classes=3)
    train = memory.Split(images, labels)
    return memory.MemoryDataset(
        spec, Options(batch_size=2), train, train, seed=0, version="7"
    )


def test_the_description_of_a_set_is_json():
    found = in_memory(IMAGES, LABELS).description()
    assert json.loads(json.dumps(found)) == found
    content = b"|u1(3, 8, 8, 1)" + IMAGES.tobytes() + b"<i4(3,)" + LABELS.tobytes()
    content *= 2
    assert found["fingerprint"] == hashlib.sha256(content).hexdigest()
    assert found["class_names"] == ["0", "1", "2"]
    assert (found["version"], found["image_shape"]) == ("7", [8, 8, 1])
    assert (found["pad"], found["flip"], found["eval_split"]) == (1, False, "test")


@pytest.mark.parametrize("change", ["pixel", "label", "order"])
def test_one_pixel_one_label_or_another_order_is_another_set(change):
    images, labels = IMAGES.copy(), LABELS.copy()
    if change == "pixel":
        images[1, 2, 3] += 1
    elif change == "label":
        labels[1] = 0
    else:
        images, labels = images[::-1], labels[::-1]
    before = in_memory(IMAGES, LABELS).fingerprint
    assert in_memory(images, labels).fingerprint != before
