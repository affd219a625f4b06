import dataclasses
import itertools
from unittest import mock

import jax
import numpy as np
import pytest

from optnet_jax.configuration.train import Data as Options
from optnet_jax.data import memory, spec
from optnet_jax.errors import InputError

# One for each row of the larger split.
NUM_CLASSES = 50


def splits(num_train=50, num_eval=21, name="cifar10"):
    """Two splits in which the label of an image is its row."""
    shape = spec.SPECS[name].image_shape
    rng = np.random.default_rng(0)
    return tuple(
        memory.Split(
            rng.integers(0, 256, (size, *shape), dtype=np.uint8),
            np.arange(size, dtype=np.int32),
        )
        for size in (num_train, num_eval)
    )


def dataset(seed=0, process_index=0, process_count=1, sizes=(50, 21), **options):
    options = Options(**({"dataset": "cifar10", "batch_size": 8} | options))
    world = {
        "process_index": lambda: process_index,
        "process_count": lambda: process_count,
    }
    with mock.patch.multiple(jax, **world):
        return memory.MemoryDataset(
            dataclasses.replace(
                spec.get_spec(options.dataset), num_classes=NUM_CLASSES
            ),
            options,
            *splits(*sizes, name=options.dataset),
            seed=seed,
            version="1.0.0",
        )


def take(iterator, count):
    return [jax.device_get(batch) for batch in itertools.islice(iterator, count)]


def assert_equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_an_evaluation_split_smaller_than_a_batch():
    (batch,) = take(dataset(sizes=(50, 3)).eval_batches(), 2)
    assert batch["label"].tolist() == [0, 1, 2, 2, 2, 2, 2, 2]
    assert batch["mask"].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


def test_arrays_that_are_views(monkeypatch):
    """Strided, reversed or transposed: what counts is the values."""
    plain = take(dataset(augment=True).train_batches(), 2)

    def views(*sizes, **options):
        train, evaluation = contiguous(*sizes, **options)
        doubled = np.repeat(train.images, 2, axis=0)[::2]
        labels = train.labels[::-1].astype(np.int64)[::-1]
        turned = evaluation.images.transpose(3, 2, 1, 0).copy().transpose(3, 2, 1, 0)
        return memory.Split(doubled, labels), memory.Split(turned, evaluation.labels)

    expected, contiguous = dataset().fingerprint, splits
    monkeypatch.setitem(globals(), "splits", views)
    assert_equal(take(dataset(augment=True).train_batches(), 2), plain)
    assert dataset().fingerprint == expected


def test_an_epoch_has_no_image_twice_and_epochs_differ():
    labels = [batch["label"] for batch in take(dataset().train_batches(), 12)]
    first, second = np.concatenate(labels[:6]), np.concatenate(labels[6:])
    assert len(set(first)) == len(set(second)) == 48
    assert not np.array_equal(first, second)


def test_batches_are_the_normalised_images_of_their_labels():
    train, _ = splits()
    entry = spec.get_spec("cifar10")
    for batch in take(dataset().train_batches(), 3):
        assert batch["image"].dtype == np.float32
        assert batch["label"].dtype == np.int32
        pixels = train.images[batch["label"]] / 255
        expected = (pixels - entry.mean) / entry.std
        np.testing.assert_allclose(batch["image"], expected, atol=2e-6)


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("start", [1, 6, 9])
def test_a_run_that_goes_on_sees_what_it_would_have_seen(augment, start):
    whole = take(dataset(augment=augment).train_batches(), 11)
    rest = take(dataset(augment=augment).train_batches(start), 11 - start)
    assert_equal(whole[start:], rest)


@pytest.mark.parametrize("process_count", [2, 4])
@pytest.mark.parametrize("kind", ["plain", "augmented", "evaluation"])
def test_the_batches_do_not_depend_on_the_number_of_processes(kind, process_count):
    def batches(*process):
        found = dataset(0, *process, augment=kind == "augmented")
        evaluation = kind == "evaluation"
        return take(found.eval_batches() if evaluation else found.train_batches(4), 4)

    shares = [batches(index, process_count) for index in range(process_count)]
    whole = [
        jax.tree.map(lambda *x: np.concatenate(x), *parts)
        for parts in zip(*shares, strict=True)
    ]
    assert_equal(whole, batches())


def test_seeds_differ():
    first, second = (take(dataset(seed).train_batches(), 1)[0] for seed in (0, 1))
    assert not np.array_equal(first["label"], second["label"])


@pytest.mark.parametrize("name", ["cifar10", "optnet_digits"])
def test_augmented_images_are_crops_of_the_padded_image_or_its_mirror(name):
    entry = spec.get_spec(name)
    (side, _, _), pad = entry.image_shape, entry.pad
    places = list(itertools.product(range(2 * pad + 1), range(2 * pad + 1), (1, -1)))
    train, _ = splits(name=name)
    seen = set()
    for batch in take(dataset(dataset=name, augment=True).train_batches(), 12):
        for image, label in zip(batch["image"], batch["label"], strict=True):
            normal = (train.images[label] / 255 - entry.mean) / entry.std
            padded = np.pad(normal, ((pad, pad), (pad, pad), (0, 0)))
            # The pixel in the middle tells most places from the right one.
            m, fitting = side // 2, []
            for top, left, turn in places:
                crop = padded[top : top + side, left : left + side][:, ::turn]
                near = np.allclose(crop[m, m], image[m, m], atol=1e-5)
                if near and np.allclose(crop, image, atol=1e-5):
                    fitting.append((top, left, turn))
            assert len(fitting) == 1
            seen.add(fitting[0])
    tops, lefts, turns = (set(part) for part in zip(*seen, strict=True))
    assert tops == lefts == set(range(2 * pad + 1))
    assert turns == ({1, -1} if entry.flip else {1})


def test_evaluation_covers_the_whole_split_once():
    batches = take(dataset().eval_batches(), 100)
    assert len(batches) == 3
    labels = [batch["label"][batch["mask"] == 1] for batch in batches]
    assert np.concatenate(labels).tolist() == list(range(21))
    assert all(batch["mask"].dtype == np.float32 for batch in batches)


def test_batch_size_that_the_processes_do_not_divide_or_larger_than_the_split():
    with pytest.raises(InputError, match=r"does not divide among 3 processes"):
        dataset(process_count=3)
    with pytest.raises(InputError, match=r"larger than the 50 training images"):
        dataset(batch_size=64)
