import re
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from optnet_jax import data
from optnet_jax.data import arrays, source, spec
from optnet_jax.errors import InputError


@pytest.mark.parametrize(
    ("size", "fault"),
    [(None, "0 records can be read, then: .*No such file"), (9999, "[1-9][0-9]* reco")],
)
def test_a_damaged_file_is_named(tmp_path, prepared_digits, size, fault):
    root = tmp_path / "optnet_digits" / "1.0.0"
    shutil.copytree(prepared_digits.data_dir, root)
    (file,) = root.glob("*test*tfrecord*")
    if size is None:
        file.unlink()
    else:
        with file.open("r+b") as opened:
            opened.truncate(size)
    builder = source.find_builder(spec.get_spec("optnet_digits"), str(tmp_path))
    assert len(arrays.read_split(builder, "train").labels) == 1437
    with pytest.raises(InputError) as caught:
        arrays.read_split(builder, "test")
    assert caught.match(
        rf"^{file.name} of optnet_digits in {root} is damaged \({fault}.*\); delete "
        "that directory and prepare the set again$"
    )


def test_tensorflow_reads_the_same(prepared_digits):
    for split in ("train", "test"):
        found = arrays._read_plain(prepared_digits, split)
        assert found is not None
        for mine, other in zip(
            found, arrays._read_with_tensorflow(prepared_digits, split), strict=True
        ):
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other)


def test_what_pillow_may_decode_otherwise_is_left_to_tensorflow(own_set):
    kind = tfds.features.Image(shape=(4, 4, 3), encoding_format="jpeg")
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    options = data.Options.of(own_set([{"image": image, "label": 1}] * 3, image=kind))
    builder = source.prepared_builder(data.spec_of(options), options.data_dir)
    assert arrays._read_plain(builder, "train") is None
    assert arrays.read_split(builder, "train").images.shape == (3, 4, 4, 3)


def test_a_format_that_tensorflow_does_not_read_is_named(own_set, tmp_path):
    pytest.importorskip("array_record")  # on Linux TFDS brings it
    config = own_set()
    options = {"data_dir": tmp_path, "file_format": "array_record"}
    tfds.builder("optnet_own", **options).download_and_prepare()
    with pytest.raises(InputError) as caught:
        data.load(config, seed=0)
    assert caught.match(
        "^optnet_own in .* is stored as array_record, which cannot be read here; "
        "prepare it as tfrecord, TFDS's default$"
    )


def any_size():
    return tfds.features.Image(shape=(None, None, 3))


def test_images_of_one_size_that_is_not_declared(own_set):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 4, 4, 3), np.uint8)
    examples = [{"image": image, "label": i % 3} for i, image in enumerate(images)]
    found = data.load(own_set(examples, image=any_size()), seed=0)
    order = [
        round(float(pixel * 127.5 + 127.5))
        for batch in found.eval_batches()
        for pixel in batch["image"][batch["mask"] == 1, 1, 2, 0]
    ]
    assert sorted(order) == sorted(images[:, 1, 2, 0])


def test_images_of_unequal_sizes_are_not_padded(own_set):
    sizes = (4, 4, 5)
    train = [{"image": np.zeros((n, n, 3), np.uint8), "label": 0} for n in sizes]
    config = own_set(train, image=any_size())
    with pytest.raises(InputError) as caught:
        data.load(config, seed=0)
    # The order of records is TFDS's.
    assert caught.match(
        r"^image [012] of the train split of optnet_own has shape \([45], [45], 3\), "
        r"the first \([45], [45], 3\): resize them to one size before the set is "
        r"prepared, or read it with streamed=True in its Spec$"
    )


SPEC = spec.Spec("own", 3, (2, 2, 1), mean=(0.5,), std=(0.5,))
IMAGES, LABELS = np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            IMAGES,
            np.array([0, 1, 3, 7]),
            "the label of image 2 of the test split of own is 3; with num_classes=3 in "
            "its Spec they are 0 to 2",
        ),
        (IMAGES, np.array([0, -2, 2, 0]), "the label of image 1 .* is -2; with"),
        (
            IMAGES,
            np.array([0, -1, 2, 0]),
            "the label of image 1 of the test split of own is -1 (TFDS's mark of a "
            "missing label); with num_classes=3",
        ),
        (IMAGES, np.array([0, 2**32, 2, 0]), "the label of image 1 .* is 4294967296;"),
        (IMAGES, np.array([0.0, 1, 2, 0]), "the labels .* are float64 of shape (4,);"),
        (IMAGES, np.array([True] * 4), "the labels .* are bool of shape (4,); they"),
        (IMAGES, np.eye(4, 3, dtype=int), "the labels .* are int64 of shape (4, 3);"),
        (
            IMAGES,
            LABELS[:3],
            "there are 4 images and 3 labels of the test split",
        ),
        (IMAGES[:0], LABELS[:0], "the test split of own is empty"),
        (
            np.full(IMAGES.shape, np.nan, np.float32),
            LABELS,
            "the images of the test split of own are float32; they must be uint8, 0 to",
        ),
        (IMAGES.astype(np.uint16), LABELS, "the images .* are uint16; they must be"),
        (
            IMAGES[:, :1],
            LABELS,
            "the images of the test split of own have shape (4, 1, 2, 1), its Spec "
            "says (N, 2, 2, 1): change one of them",
        ),
        (
            IMAGES.repeat(3, 3),
            LABELS,
            "the images .* have shape (4, 2, 2, 3), its",
        ),
        (IMAGES[..., 0], LABELS, "the images .* have shape (4, 2, 2), its Spec says"),
        ([IMAGES[0], IMAGES[0, :1]], LABELS[:2], "the test split of own is no array"),
    ],
)
def test_arrays_that_are_not_what_the_entry_says(images, labels, message):
    pattern = "^" + re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(InputError, match=pattern):
        arrays.checked(SPEC, "test", arrays.Split(images, labels))


def test_labels_become_int32():
    found = arrays.checked(SPEC, "test", arrays.Split(IMAGES, LABELS.astype(np.uint64)))
    assert found.labels.dtype == np.int32
    np.testing.assert_array_equal(found.labels, LABELS)
