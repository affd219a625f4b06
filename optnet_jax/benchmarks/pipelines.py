"""Images per second of the input pipelines, beside what the training step takes."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from optnet_jax.benchmarks import jax_runs, jpegs
from optnet_jax.benchmarks.activity import begin
from optnet_jax.benchmarks.jax_runs import random_batch
from optnet_jax.benchmarks.networks import DEFAULT_BATCHES
from optnet_jax.benchmarks.suite import Row, Suite, number
from optnet_jax.benchmarks.timing import Spread, take_turns, timed
from optnet_jax.data import Dataset, Options, get_spec
from optnet_jax.data.memory import MemoryDataset, Split
from optnet_jax.errors import InputError
from optnet_jax.networks import create
from optnet_jax.studies.tables import markdown_table

CASES = {
    "digits": ("optnet_digits", False, "agd_net40"),
    "CIFAR": ("cifar10", False, "agd_net40"),
    "CIFAR, augmented": ("cifar10", True, "agd_net40"),
    "ImageNet, augmented": ("imagenet2012", True, "agd_net121"),
}
"""Label -> dataset, augmentation, the network that is trained on it."""
SIZES = {"optnet_digits": 1437, "cifar10": 50_000}
"""Training images of the sets that lie in memory."""
ROUNDS = 5


class Pipelines(Suite):
    """Each pipeline alone, and the training step of a network that it feeds.

    The images are random, of the genuine size and number; ImageNet's are JPEGs of
    375×500 pixels in prepared files, made in a temporary directory.
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add how much is read."""
        parser.add_argument("--batch", type=int, default=64, help="images a batch")
        parser.add_argument(
            "--batches", type=int, default=8, help=f"in each of {ROUNDS} timed rounds"
        )
        parser.add_argument("--jpegs", type=int, default=1024, help="images to make")

    def run(self, options: argparse.Namespace) -> list[Row]:
        """See :meth:`Suite.run`."""
        if min(options.batch, options.batches) < 1 or options.jpegs < options.batch:
            raise InputError(
                "--batch and --batches must be positive, and --jpegs at least --batch"
            )
        rows, steps = [], {}
        for label, (name, augment, network) in CASES.items():
            settings = Options(dataset=name, batch_size=options.batch, augment=augment)
            begin(f"{label}: read images")
            spread = _images_per_second(settings, options)
            shape = get_spec(name).image_shape
            if (network, shape) not in steps:
                begin(f"{network}: the training step that they are for")
                steps[network, shape] = _trained_per_second(network, shape)
            row = {"case": label, "network": network, "train": steps[network, shape]}
            rows.append(row | {"pipeline": dataclasses.asdict(spread)})
        return rows

    def markdown(self, rows: list[Row]) -> str:
        """Lay out the rows."""
        head = ["input", "images / s", "quartiles", "network", "trained images / s"]
        lines = []
        for row in rows:
            spread, trained = row["pipeline"], row["train"]["median"]
            quartiles = f"{number(spread['low'])}-{number(spread['high'])}"
            factor = number(spread["median"] / trained)
            rate = number(spread["median"])
            network, trained = row["network"], number(trained)
            lines.append([row["case"], rate, quartiles, network, trained, factor])
        return markdown_table([*head, "input / training"], lines)


def _images_per_second(settings: Options, options: argparse.Namespace) -> Spread:
    if get_spec(settings.dataset).streamed:
        with tempfile.TemporaryDirectory() as folder:
            builder = jpegs.prepare(folder, options.jpegs)
            return _rate(_streamed(settings, builder).train_batches(), options)
    return _rate(_in_memory(settings).train_batches(), options)


def _rate(batches: Iterator[Any], options: argparse.Namespace) -> Spread:
    def read() -> None:
        for batch in itertools.islice(batches, options.batches):
            jax.block_until_ready(batch)

    (times,) = take_turns({"read": timed(read)}, ROUNDS).values()
    return Spread.of([options.batch * options.batches / t for t in times])


def _in_memory(settings: Options) -> Dataset:
    spec = get_spec(settings.dataset)
    rng, count = np.random.default_rng(0), SIZES[spec.name]
    images = rng.integers(0, 256, (count, *spec.image_shape), np.uint8)
    labels = rng.integers(0, spec.num_classes, count, np.int32)
    train = Split(images, labels)
    return MemoryDataset(spec, settings, train, train, seed=0, version="random")


def _streamed(settings: Options, builder: Any) -> Dataset:
    from optnet_jax.data.stream import StreamDataset

    spec = get_spec(settings.dataset)
    return StreamDataset(spec, settings, builder, seed=0)


def _trained_per_second(name: str, shape: tuple[int, ...]) -> dict[str, float]:
    network: Any = create(name)
    count = DEFAULT_BATCHES.get(name, 16)
    batch = random_batch(count, shape, network.num_classes)
    state = jax_runs.initial_state(network, shape)
    program = jax_runs.training_program(network, state, batch)
    (times,) = take_turns({"step": timed(program.run)}, ROUNDS).values()
    return dataclasses.asdict(Spread.of([count / t for t in times]))


SUITE = Pipelines()
