import dataclasses
import functools
import io
import itertools
import shutil
from unittest import mock

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from optnet_jax import data
from optnet_jax.configuration.train import Data as Options
from optnet_jax.data import quiet, records, source, spec, stream
from optnet_jax.errors import InputError

SIZE = 16
CORRUPT = ("n01443537_4.JPEG", "ILSVRC2012_val_00000003.JPEG")
SPEC = spec.get_spec("imagenet2012").with_image_size(SIZE)
SHARED = {"augment": True, "batch_size": 8, "shuffle_buffer": 64}
# One grey level and a half of 255, in units of the standard deviation.
TOLERANCE = 1.5 / 255 / min(SPEC.std)


def prepared(directory, archives, **options):
    images = archives(directory / "downloads" / "manual", **options)
    return source.prepared_builder(SPEC, str(directory)), images


@pytest.fixture(scope="module")
def sound(tmp_path_factory, imagenet_archives):
    return prepared(tmp_path_factory.mktemp("sound"), imagenet_archives)


@pytest.fixture(scope="module")
def many(tmp_path_factory, imagenet_archives):
    """The same in several files, as a large set is."""
    directory = tmp_path_factory.mktemp("many")
    manual_dir = directory / "downloads" / "manual"
    imagenet_archives(manual_dir, num_train=75, num_eval=21)
    builder = source.find_builder(SPEC, str(directory))
    with quiet.no_chatter():
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=manual_dir, num_shards=3
            )
        )
    return builder


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, imagenet_archives):
    directory = tmp_path_factory.mktemp("damaged")
    return prepared(directory, imagenet_archives, corrupt=CORRUPT)[0]


def dataset(builder, seed=0, process_index=0, process_count=1, **options):
    options = Options(
        **{"dataset": "imagenet2012", "batch_size": 6, "shuffle_buffer": 24} | options
    )
    world = {
        "process_index": lambda: process_index,
        "process_count": lambda: process_count,
    }
    with mock.patch.multiple(jax, **world):
        return stream.StreamDataset(SPEC, options, builder, seed=seed)


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


def test_load_reads_it_with_the_images_resized(sound):
    config = {
        "dataset": "imagenet2012",
        "data_dir": str(sound[0].data_dir_root),
        "batch_size": 5,
        "image_size": SIZE,
        "augment": True,
        "shuffle_buffer": 24,
    }
    found = data.load(config, seed=0)
    assert (found.num_train, found.num_eval, found.num_classes) == (23, 7, 1000)
    assert (found.image_shape, found.steps_per_epoch) == ((SIZE, SIZE, 3), 4)
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
    seen, batches = [], list(dataset(builder).eval_batches())
    assert len(batches) == 2
    for batch in batches:
        assert batch["image"].dtype == batch["mask"].dtype == np.float32
        assert batch["label"].dtype == np.int32
        for row in np.flatnonzero(batch["mask"]):
            label = int(batch["label"][row])
            seen.append(label)
            error = np.abs(batch["image"][row] - expected[label]).max()
            assert error < TOLERANCE
    assert sorted(seen) == sorted(expected)


def together(builder, process_count, batches, **options):
    """The shares of all processes, put together again, and the last process."""
    processes = [
        dataset(builder, 0, index, process_count, **options)
        for index in range(process_count)
    ]
    shares = [batches(process) for process in processes]
    assert len({len(share) for share in shares}) == 1
    whole = [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*shares, strict=True)
    ]
    return whole, processes[-1]


def around_an_epoch_border(one):
    """Four steps of a run that goes on at step 7; nine are an epoch."""
    return take(one.train_batches(7), 4)


def evaluation(one):
    return list(one.eval_batches())


@pytest.fixture(scope="module")
def by_one_process(many):
    run = functools.partial(together, many, 1, **SHARED)
    return {make: run(make)[0] for make in (around_an_epoch_border, evaluation)}


@pytest.mark.parametrize("make", [around_an_epoch_border, evaluation])
@pytest.mark.parametrize("process_count", [2, 4])
def test_the_batches_do_not_depend_on_the_number_of_processes(
    many, by_one_process, process_count, make
):
    whole, last = together(many, process_count, make, **SHARED)
    assert_same(whole, by_one_process[make])
    assert last.local_batch_size * process_count == 8


def test_processes_see_what_one_process_saw_that_never_stopped(many, by_one_process):
    batches = take(dataset(many, **SHARED).train_batches(), 11)
    assert_same(batches[7:], by_one_process[around_an_epoch_border])
    masks = [batch["mask"] for batch in by_one_process[evaluation]]
    assert np.concatenate(masks).sum() == 21


def test_processes_that_do_not_divide_the_streams(many, monkeypatch):
    monkeypatch.setattr(records, "MAX_STREAMS", 4)
    options = SHARED | {"batch_size": 12}

    def batches(one):
        return take(one.train_batches(3), 3)

    whole, _ = together(many, 1, batches, **options)
    # The streams have rows 0-2, 3-5, 6-8 and 9-11, the processes 0-3, 4-7 and 8-11.
    assert_same(together(many, 3, batches, **options)[0], whole)


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


@pytest.mark.parametrize(
    ("crop", "start"), [("random_resized", 1), ("random_resized", 3), ("fixed", 5)]
)
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
    plain.preprocessing = dataclasses.replace(plain.preprocessing, resize=SIZE)
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


def test_a_corrupt_image_ends_the_run_by_name(damaged):
    with pytest.raises(InputError) as caught:
        take(dataset(damaged).train_batches(), 4)
    assert str(caught.value) == (
        f"{CORRUPT[0]} of imagenet2012 in {damaged.data_dir} is not a readable image; "
        "prepare the set again, or leave such images out with "
        "--config.data.skip_corrupt=True"
    )
    with pytest.raises(InputError, match=CORRUPT[1]):
        list(dataset(damaged).eval_batches())


def test_corrupt_images_are_left_out_and_counted_on_request(damaged):
    def training(one):
        return take(one.train_batches(), 3)

    whole, found = together(damaged, 1, training, skip_corrupt=True)
    assert found.corrupt == {CORRUPT[0]}
    assert all(batch["image"].std((1, 2, 3)).min() > 0 for batch in whole)
    masks = [batch["mask"] for batch in found.eval_batches()]
    assert np.concatenate(masks).sum() == 6
    assert found.corrupt == set(CORRUPT)
    again = dataset(damaged, skip_corrupt=True)
    assert_same(whole[1:], take(again.train_batches(1), 2))
    assert_same(together(damaged, 2, training, skip_corrupt=True)[0], whole)


def test_a_file_without_any_readable_image(tmp_path, imagenet_archives):
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2)]
    builder, _ = prepared(tmp_path, imagenet_archives, num_eval=2, corrupt=names)
    with pytest.raises(InputError, match=r"-00000-of-00001 .* no readable image \(2"):
        list(dataset(builder, skip_corrupt=True).eval_batches())


def break_file(builder, directory, split, damage):
    """The same set, with a damaged file of records."""
    root = directory / "imagenet2012" / "5.1.0"
    shutil.copytree(builder.data_dir, root)
    file = sorted(root.glob(f"*{split}*tfrecord*"))[0]
    damage(file)
    return source.prepared_builder(SPEC, str(directory)), file.name


def truncate(file):
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (truncate, r"[1-9]\d* records can be read, then: truncated record at \d+"),
        (flip, r"[1-9]\d* records can be read, then: corrupted record at \d+"),
        (lambda file: file.write_bytes(b""), "0 records can be read, then: the end"),
        (lambda file: file.unlink(), "0 records can be read, then: .*No such file"),
    ],
)
def test_a_damaged_file_of_records_ends_the_run_by_name(tmp_path, many, damage, cause):
    builder, name = break_file(many, tmp_path, "train", damage)
    with pytest.raises(InputError, match=f"^{name} of imagenet2012 in .* \\({cause}"):
        take(dataset(builder).train_batches(), 12)


def test_records_of_a_damaged_file_are_left_out_on_request(tmp_path, many):
    builder, name = break_file(many, tmp_path / "one", "train", truncate)
    builder, other = break_file(builder, tmp_path / "both", "validation", flip)
    options = SHARED | {"skip_corrupt": True}

    def training(one):
        return take(one.train_batches(), 9)

    whole, found = together(builder, 1, training, **options)
    assert found.corrupt == {name}
    assert all(batch["image"].std((1, 2, 3)).min() > 0 for batch in whole)
    # What cannot be read is replaced; the rest keeps its place.
    same = [
        np.array_equal(*pair)
        for batch, sound in zip(whole, training(dataset(many, **SHARED)), strict=True)
        for pair in zip(batch["image"], sound["image"], strict=True)
    ]
    assert 0.5 < np.mean(same) < 1
    assert_same(together(builder, 2, training, **options)[0], whole)
    mask = np.concatenate([batch["mask"] for batch in found.eval_batches()])
    assert 0 < mask.sum() < 21
    assert found.corrupt == {name, other}


def test_a_set_that_is_no_tfrecord(sound):
    builder = source.find_builder(SPEC, str(sound[0].data_dir_root))
    builder.info.set_file_format(
        "array_record", override=True, override_if_initialized=True
    )
    with pytest.raises(InputError, match="is stored as array_record, which cannot be"):
        dataset(builder)


@pytest.mark.parametrize("resize", [0, 5])
def test_a_set_of_pngs_without_names_is_read(own_set, resize):
    """As a builder writes it that says nothing of encodings and names."""
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((4, 4), (6, 9))]
    examples = [{"image": x, "label": i} for i, x in enumerate(pixels)]
    config = own_set(
        examples,
        streamed=True,
        resize=resize,
        mean=(0.0,) * 3,
        std=(1 / 255,) * 3,
    )
    dataset = data.load(config, seed=0)
    (batch,) = dataset.eval_batches()
    by_label = dict(zip(batch["label"].tolist(), batch["image"], strict=True))
    if resize == 0:  # the small image is taken as it is
        np.testing.assert_allclose(by_label[0], pixels[0], atol=1e-3)
    assert batch["mask"].tolist() == [1, 1]
    assert np.isfinite(next(dataset.train_batches())["image"]).all()
    config["augment"] = True
    assert next(data.load(config, seed=0).train_batches())["image"].shape == (
        2,
        4,
        4,
        3,
    )


def test_images_without_a_name_are_told_apart_by_their_place(own_set, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    config = own_set(
        [{"image": str(broken), "label": 0}] * 3
        + [{"image": np.zeros((4, 4, 3), np.uint8), "label": 1}],
        streamed=True,
    )
    with pytest.raises(InputError, match=r"^record \d of \S*tfrecord\S* of optnet_own"):
        list(data.load(config, seed=0).eval_batches())
    skipping = data.load(config | {"skip_corrupt": True}, seed=0)
    for _ in range(2):
        assert sum(batch["mask"].sum() for batch in skipping.eval_batches()) == 1
        assert len(skipping.corrupt) == 3


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_ends_the_run_by_name(own_set, label):
    scalar = tfds.features.Scalar(np.int64)
    config = own_set((0, label, 1), label=scalar, streamed=True)
    dataset = data.load(config, seed=0)
    with pytest.raises(InputError, match=rf"the label of record \d of .* is {label}"):
        list(dataset.eval_batches())
