"""Images per second of the input pipelines, beside what the training step takes."""

import argparse
import functools
import itertools
import tempfile
from typing import Any

import jax
import numpy as np

from optnet_jax.benchmarks import programs
from optnet_jax.benchmarks.networks import BATCHES
from optnet_jax.benchmarks.suite import Column, Row, Suite, begin, positive
from optnet_jax.benchmarks.timing import spread, take_turns, timed
from optnet_jax.data import Dataset, Options, get_spec, quiet
from optnet_jax.data.memory import MemoryDataset, Split
from optnet_jax.data.stream import StreamDataset
from optnet_jax.networks import create

INPUTS = {
    "digits": ("optnet_digits", "agd_net40", 1437),
    "cifar": ("cifar10", "agd_net40", 50_000),
    "cifar_augmented": ("cifar10", "agd_net40", 50_000),
    "imagenet_augmented": ("imagenet2012", "agd_net121", 0),
}
"""Label -> dataset, the network that is trained on it, and the number of images in
memory, which are random; 0: JPEGs in prepared files."""
PHOTOGRAPH, NOISE, DISTINCT = (375, 500, 3), 8, 32
"""Size of ImageNet's average image, the noise that makes its JPEG as long, 120 KB, and
how many different ones are made."""


def _measure(label: str, options: argparse.Namespace) -> list[Row]:
    """Time a pipeline alone, and the training step of the network that it feeds."""
    dataset, network, _ = INPUTS[label]
    begin(f"{label}: make the images")
    with tempfile.TemporaryDirectory() as folder:
        batches = _dataset(label, options, folder).train_batches()

        def read() -> None:
            for batch in itertools.islice(batches, options.batches):
                jax.block_until_ready(batch)

        begin(f"{label}: read {options.repeats} x {options.batches} batches")
        (times,) = take_turns({"read": timed(read)}, options.repeats).values()
    rate = spread([options.batch * options.batches / t for t in times])
    begin(f"{label}: the training step of {network}")
    trained = _trained(network, get_spec(dataset).image_shape, options.repeats)
    row = {"case": label, "images": rate, "network": network, "trained": trained}
    return [row | {"share": rate["median"] / trained["median"]}]


def _dataset(label: str, options: argparse.Namespace, folder: str) -> Dataset:
    dataset, _, count = INPUTS[label]
    settings = Options(
        dataset=dataset,
        batch_size=options.batch,
        augment=label.endswith("augmented"),
    )
    spec, rng = get_spec(dataset), np.random.default_rng(0)
    if spec.streamed:
        return StreamDataset(spec, settings, jpegs(folder, options.jpegs), seed=0)
    images = rng.integers(0, 256, (count, *spec.image_shape), np.uint8)
    train = Split(images, rng.integers(0, spec.num_classes, count, np.int32))
    return MemoryDataset(spec, settings, train, train, seed=0, version="random")


def jpegs(folder: str, count: int) -> Any:
    """Prepare a set of JPEGs that cost as much to decode as ImageNet's photographs.

    Args:
        folder: where.
        count: images; many are alike.

    Returns:
        Its ``tfds.core.DatasetBuilder``.
    """
    tf, tfds = quiet.import_tensorflow(), quiet.import_tfds()
    tfds.disable_progress_bar()
    rng = np.random.default_rng(0)
    height, width, channels = PHOTOGRAPH

    def photograph() -> np.ndarray:
        # Smooth colours with noise.
        colours = rng.integers(0, 256, (height // 8, width // 8, channels))
        smooth = tf.image.resize(colours, (height, width), "bicubic").numpy()
        return np.clip(smooth + rng.normal(0, NOISE, PHOTOGRAPH), 0, 255).astype("u1")

    images = [photograph() for _ in range(min(DISTINCT, count))]
    examples = [
        (i, {"image": images[i % DISTINCT], "label": i % 3}) for i in range(count)
    ]
    image = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
    label = tfds.features.ClassLabel(num_classes=1000)
    with quiet.no_chatter():
        return tfds.dataset_builders.store_as_tfds_dataset(
            "photographs",
            version="1.0.0",
            features=tfds.features.FeaturesDict({"image": image, "label": label}),
            split_datasets={"train": examples, "validation": examples[:1]},
            data_dir=folder,
        )


@functools.cache
def _trained(name: str, shape: tuple[int, ...], repeats: int) -> dict[str, float]:
    network, count = create(name), BATCHES.get(name, 16)
    program = programs.training_program(network, *programs.start(network, shape, count))
    (times,) = take_turns({"step": timed(program.run)}, repeats).values()
    return spread([count / t for t in times])


SUITE = Suite(
    "pipelines",
    "images per second of the input, beside the training step's",
    "inputs",
    _measure,
    (
        Column("input", "case"),
        Column("images / s", "images", quartiles=True),
        Column("network", "network"),
        Column("trained images / s", "trained"),
        Column("input / training", "share"),
    ),
    {
        "inputs": {"choices": tuple(INPUTS), "nargs": "+", "default": tuple(INPUTS)},
        "batch": {"type": positive, "default": 64, "help": "images a batch"},
        "batches": {"type": positive, "default": 8, "help": "of each timed round"},
        "jpegs": {"type": positive, "default": 1024, "help": "images to make"},
    },
    repeats=5,
)
