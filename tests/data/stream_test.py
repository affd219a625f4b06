import dataclasses
import io
import itertools
import shutil

import numpy as np
import pytest
from PIL import Image

from optnet_jax import data
from optnet_jax.data import quiet, source, spec, stream
from optnet_jax.data.options import Options
from optnet_jax.errors import InputError

SIZE = 16
CORRUPT = ("n01443537_4.JPEG", "ILSVRC2012_val_00000003.JPEG")
SPEC = spec.get_spec("imagenet2012").with_image_size(SIZE)
# One grey level and a half of 255, in units of the standard deviation.
TOLERANCE = 1.5 / 255 / min(SPEC.std)


def prepared(directory, archives, **options):
    images = archives(directory / "downloads" / "manual", **options)
    return source.prepared_builder(SPEC, str(directory)), images


@pytest.fixture(scope="module")
def sound(tmp_path_factory, imagenet_archives):
    return prepared(tmp_path_factory.mktemp("sound"), imagenet_archives)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, imagenet_archives):
    directory = tmp_path_factory.mktemp("damaged")
    return prepared(directory, imagenet_archives, corrupt=CORRUPT)[0]


def dataset(builder, seed=0, process_index=0, process_count=1, **options):
    options = {"batch_size": 6, "shuffle_buffer": 8} | options
    return stream.StreamDataset(
        SPEC,
        Options(dataset="imagenet2012", **options),
        builder,
        seed=seed,
        process_index=process_index,
        process_count=process_count,
    )


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def images(batches):
    """The images of some batches as a set of their bytes."""
    return [row.tobytes() for batch in batches for row in batch["image"]]


def central(content):
    """What Pillow makes of it: the middle square, resized, normalised."""
    image = Image.open(io.BytesIO(content))
    side = round(min(image.size) * SIZE / SPEC.resize)
    left, top = ((edge - side) // 2 for edge in image.size)
    box = (left, top, left + side, top + side)
    crop = image.crop(box).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return (np.asarray(crop) / 255 - SPEC.mean) / SPEC.std


def test_attributes(sound):
    found = dataset(sound[0])
    assert (found.num_train, found.num_eval, found.num_classes) == (23, 7, 1000)
    assert (found.image_shape, found.steps_per_epoch) == ((SIZE, SIZE, 3), 3)
    assert found.split == (
        "imagenet2012 5.1.0: train 23, validation 7 (the published split)"
    )


def test_load_reads_it_with_the_images_resized(sound):
    config = {
        "dataset": "imagenet2012",
        "data_dir": str(sound[0].data_dir_root),
        "batch_size": 5,
        "image_size": SIZE,
        "augment": True,
        "shuffle_buffer": 8,
    }
    found = data.load(config, seed=0)
    assert found.image_shape == (SIZE, SIZE, 3)
    expected = dataset(sound[0], batch_size=5, augment=True)
    assert_same(take(found.train_batches(2), 1), take(expected.train_batches(2), 1))


def test_evaluation_is_the_central_crop_of_every_image(sound):
    builder, jpegs = sound
    validation = builder.as_dataset("validation").as_numpy_iterator()
    expected = {
        record["label"]: central(jpegs[record["file_name"].decode()])
        for record in validation
    }
    assert len(expected) == 7
    seen = set()
    for batch in dataset(builder).eval_batches():
        assert batch["image"].dtype == batch["mask"].dtype == np.float32
        assert batch["label"].dtype == np.int32
        for row in np.flatnonzero(batch["mask"]):
            label = int(batch["label"][row])
            seen.add(label)
            error = np.abs(batch["image"][row] - expected[label]).max()
            assert error < TOLERANCE
    assert seen == set(expected)


@pytest.mark.parametrize("process_count", [1, 2, 3])
def test_evaluation_covers_the_split_in_equally_many_batches(sound, process_count):
    shares = [
        list(dataset(sound[0], 0, index, process_count).eval_batches())
        for index in range(process_count)
    ]
    assert len({len(share) for share in shares}) == 1
    labels = [
        label
        for share in shares
        for batch in share
        for label, mask in zip(batch["label"], batch["mask"], strict=True)
        if mask
    ]
    whole = sound[0].as_dataset("validation").as_numpy_iterator()
    assert sorted(labels) == sorted(record["label"] for record in whole)


def test_an_epoch_has_no_image_twice_and_epochs_differ(sound):
    batches = take(dataset(sound[0]).train_batches(), 6)
    first, second = images(batches[:3]), images(batches[3:])
    assert len(set(first)) == len(set(second)) == 18
    assert first != second


def test_labels_belong_to_their_images(sound):
    builder, jpegs = sound
    synsets = ("n01440764", "n01443537", "n01484850")
    crops = {
        name: central(content) for name, content in jpegs.items() if name[0] == "n"
    }
    # Without augmentation a training image is its central crop, as in evaluation.
    for batch in take(dataset(builder).train_batches(), 3):
        for image, label in zip(batch["image"], batch["label"], strict=True):
            errors = {name: np.abs(crops[name] - image).max() for name in crops}
            name = min(errors, key=lambda name: errors[name])
            assert errors[name] < TOLERANCE
            assert name.startswith(synsets[label])


@pytest.mark.parametrize("crop", ["random_resized", "fixed"])
@pytest.mark.parametrize("start", [1, 3, 5])
def test_a_run_that_goes_on_sees_what_it_would_have_seen(sound, crop, start):
    options = {"augment": True, "crop": crop}
    whole = take(dataset(sound[0], **options).train_batches(), 7)
    rest = take(dataset(sound[0], **options).train_batches(start), 7 - start)
    assert_same(whole[start:], rest)


def test_seeds_and_epochs_are_augmented_differently(sound):
    def augmented(seed):
        return images(take(dataset(sound[0], seed, augment=True).train_batches(), 6))

    first, second = augmented(0), augmented(1)
    assert len(set(first)) == len(set(second)) == 36
    assert not set(first) & set(second)


def test_half_of_the_augmented_images_are_mirrored(sound):
    plain = dataset(sound[0])
    # A square window as large as the image leaves the mirror as the only change.
    plain.spec = dataclasses.replace(SPEC, resize=SIZE)
    tf = quiet.import_tensorflow()
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    square = tf.io.encode_jpeg(pixels)
    plain.options = dataclasses.replace(plain.options, crop="fixed")
    upright = plain._image(square, None).numpy()
    draws = [plain._image(square, tf.constant([0, i])).numpy() for i in range(64)]
    mirrored = [np.array_equal(draw, upright[:, ::-1]) for draw in draws]
    assert all(
        flip or np.array_equal(draw, upright)
        for flip, draw in zip(mirrored, draws, strict=True)
    )
    assert 16 < sum(mirrored) < 48


def test_processes_share_an_epoch(sound):
    shares = [
        images(take(dataset(sound[0], 0, index, 2).train_batches(), 3))
        for index in range(2)
    ]
    assert [len(share) for share in shares] == [9, 9]
    assert len(set(shares[0]) | set(shares[1])) == 18


def test_a_corrupt_image_ends_the_run_by_name(damaged):
    with pytest.raises(InputError) as caught:
        take(dataset(damaged).train_batches(), 4)
    assert str(caught.value) == (
        f"{CORRUPT[0]} of imagenet2012 in {damaged.data_dir} is not a readable JPEG; "
        "prepare the set again, or leave such images out with "
        "--config.data.skip_corrupt=True"
    )
    with pytest.raises(InputError, match=CORRUPT[1]):
        list(dataset(damaged).eval_batches())


def test_corrupt_images_are_left_out_and_counted_on_request(damaged):
    found = dataset(damaged, skip_corrupt=True)
    whole = take(found.train_batches(), 9)
    assert found.corrupt == {CORRUPT[0]}
    assert all(batch["image"].std((1, 2, 3)).min() > 0 for batch in whole)
    masks = [batch["mask"] for batch in found.eval_batches()]
    assert np.concatenate(masks).sum() == 6
    assert found.corrupt == set(CORRUPT)
    again = dataset(damaged, skip_corrupt=True)
    assert_same(whole[4:], take(again.train_batches(4), 5))


def test_a_batch_without_any_readable_image(damaged):
    found = dataset(damaged, skip_corrupt=True, batch_size=1)
    with pytest.raises(InputError, match="none of the images of a whole batch"):
        take(found.train_batches(), 23)


def test_a_damaged_file_of_records(tmp_path, sound):
    root = tmp_path / "imagenet2012" / "5.1.0"
    shutil.copytree(sound[0].data_dir, root)
    (record_file,) = root.glob("*validation*tfrecord*")
    content = bytearray(record_file.read_bytes())
    content[len(content) // 2] ^= 1
    record_file.write_bytes(content)
    builder = source.prepared_builder(SPEC, str(tmp_path))
    with pytest.raises(InputError, match="has a damaged file: .*corrupted record"):
        list(dataset(builder, skip_corrupt=True).eval_batches())
