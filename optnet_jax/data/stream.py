"""Large datasets: JPEGs read from disk, cut out, resized and mirrored by ``tf.data``.

Every process reads its own contiguous part of each split. Epoch e of a process is its
part, files and then records shuffled by (seed, e); record i of that order is augmented
by (seed, e, i). To go on at a step, the records before it are skipped undecoded. So a
batch is a function of (seed, step) and of the number of processes.

A record that is not a JPEG keeps its place in that order, or a run that goes on would
see other batches. It ends the run by name, or, if ``data.skip_corrupt`` says so, is
counted and replaced: in training by the next good image of its batch, in evaluation by
padding.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from optnet_jax.data import crops, quiet
from optnet_jax.data.dataset import Dataset
from optnet_jax.data.options import Options
from optnet_jax.data.spec import Spec
from optnet_jax.errors import InputError

Batch = dict[str, np.ndarray]

# Parallel reads and decodes; tf.data finds how many of them pay.
READERS = 16
DECODERS = 64


class StreamDataset(Dataset):
    """A dataset that is read from disk while it is used.

    Args:
        spec: its entry in the table.
        options: ``config.data``.
        builder: its prepared TFDS builder, with the features ``image`` (JPEG),
            ``label`` and ``file_name``.
        seed: of the shuffling and the augmentation.
        process_index: this process; JAX's by default.
        process_count: number of processes; JAX's by default.

    Attributes:
        corrupt: names of the images that were not readable, so far.
    """

    def __init__(
        self,
        spec: Spec,
        options: Options,
        builder: Any,
        *,
        seed: int,
        process_index: int | None = None,
        process_count: int | None = None,
    ):
        splits = builder.info.splits
        super().__init__(
            spec,
            options,
            num_train=splits["train"].num_examples,
            num_eval=splits[spec.eval_split].num_examples,
            version=str(builder.version),
            process_index=process_index,
            process_count=process_count,
        )
        self.corrupt: set[str] = set()
        self._builder = builder
        self._seed = seed
        std = np.asarray(spec.std, np.float32)
        # Normalised = scale * pixel + shift, one multiply-add per pixel.
        self._scale = 1 / (255 * std)
        self._shift = -np.asarray(spec.mean, np.float32) / std

    def train_batches(self, start_step: int = 0) -> Iterator[Batch]:
        """See :meth:`Dataset.train_batches`.

        Raises:
            InputError: while iterating, at an image that cannot be read.
        """
        first_epoch, step = divmod(start_step, self.steps_per_epoch)
        for epoch in itertools.count(first_epoch):
            for batch in self._guarded(self._train_epoch(epoch, step)):
                readable = batch.pop("readable")
                if not readable.all():
                    batch = _replace(batch, readable, self._builder.data_dir)
                yield batch
            step = 0

    def eval_batches(self) -> Iterator[Batch]:
        """See :meth:`Dataset.eval_batches`.

        Raises:
            InputError: while iterating, at an image that cannot be read.
        """
        # The largest part decides, so that all processes take part in every step.
        largest = -(-self.num_eval // self.process_count)
        total = -(-largest // self.local_batch_size)
        empty = {
            "image": np.zeros((0, *self.image_shape), np.float32),
            "label": np.zeros(0, np.int32),
            "readable": np.zeros(0, bool),
        }
        batches = self._guarded(self._evaluation())
        for _ in range(total):
            batch = dict(next(batches, empty))
            batch["mask"] = batch.pop("readable").astype(np.float32)
            yield _pad(batch, self.local_batch_size)

    def _part(self, split: str, size: int) -> str:
        """This process's part of a split of ``size`` records, as TFDS writes it."""
        first, last = (
            size * index // self.process_count
            for index in (self.process_index, self.process_index + 1)
        )
        return f"{split}[{first}:{last}]"

    def _records(self, part: str, **options: Any) -> Any:
        """The undecoded records of a part of a split."""
        tfds = quiet.import_tfds()
        shuffle_seed = options.pop("shuffle_seed", None)
        with quiet.no_chatter():
            return self._builder.as_dataset(
                part,
                shuffle_files=shuffle_seed is not None,
                read_config=tfds.ReadConfig(
                    shuffle_seed=shuffle_seed,
                    interleave_cycle_length=READERS,
                    try_autocache=False,
                ),
                decoders=tfds.decode.PartialDecoding(
                    {"image": True, "label": True, "file_name": True},
                    decoders={"image": tfds.decode.SkipDecoding()},
                ),
            )

    def _train_epoch(self, epoch: int, first_step: int) -> Any:
        """The training batches of an epoch from a step of it onwards."""
        state = np.random.SeedSequence([self._seed, epoch]).generate_state(2)
        shuffle_seed, augment_seed = (int(word >> 1) for word in state)
        part = self._part("train", self.num_train)
        first = first_step * self.local_batch_size
        last = self.steps_per_epoch * self.local_batch_size
        records = self._records(part, shuffle_seed=shuffle_seed)
        records = records.shuffle(
            self.options.shuffle_buffer, shuffle_seed, reshuffle_each_iteration=False
        )
        records = records.enumerate().take(last).skip(first)
        return self._decoded(records, augment_seed if self.options.augment else None)

    def _evaluation(self) -> Any:
        part = self._part(self.spec.eval_split, self.num_eval)
        return self._decoded(self._records(part).enumerate(), None)

    def _decoded(self, records: Any, augment_seed: int | None) -> Any:
        """Batches of (index, undecoded record), in the same order."""
        tf = quiet.import_tensorflow()

        def decode(index: Any, record: dict[str, Any]) -> dict[str, Any]:
            # Unlike the index, this number belongs to one process only.
            number = tf.cast(index, tf.int32) * self.process_count + self.process_index
            seed = None if augment_seed is None else tf.stack([augment_seed, number])
            return {
                "image": self._image(record["image"], seed),
                "label": tf.cast(record["label"], tf.int32),
                "file_name": record["file_name"],
                "readable": True,
            }

        def decode_or_stand_in(index: Any, record: dict[str, Any]) -> Any:
            # An error is caught by a dataset, so each record is a dataset of its own.
            stand_in = {
                "image": tf.zeros(self.image_shape, tf.uint8),
                "label": tf.cast(record["label"], tf.int32),
                "file_name": record["file_name"],
                "readable": False,
            }
            one = tf.data.Dataset.from_tensors((index, record)).map(decode)
            one = one.ignore_errors()
            return one.concatenate(tf.data.Dataset.from_tensors(stand_in)).take(1)

        def normalise(batch: dict[str, Any]) -> dict[str, Any]:
            pixels = tf.cast(batch["image"], tf.float32)
            return batch | {"image": pixels * self._scale + self._shift}

        batches = (
            records.interleave(
                decode_or_stand_in,
                cycle_length=DECODERS,
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            .batch(self.local_batch_size)
            .map(normalise, num_parallel_calls=tf.data.AUTOTUNE)
        )
        return batches.prefetch(tf.data.AUTOTUNE)

    def _image(self, jpeg: Any, seed: Any) -> Any:
        """A JPEG as uint8 [H, W, C]; a random part of it where there is a seed."""
        tf = quiet.import_tensorflow()
        height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(jpeg))
        share = self.image_shape[0] / self.spec.resize
        if seed is None:
            window = crops.central(height, width, share)
        elif self.options.crop == "fixed":
            window = crops.fixed(height, width, seed, share)
        else:
            window = crops.random_resized(height, width, seed)
        # TensorFlow's default is a faster transform, off by up to 9 grey levels; this
        # one gives Pillow's pixels, and so those of published weights.
        pixels = tf.image.decode_and_crop_jpeg(
            jpeg,
            window,
            channels=self.image_shape[2],
            dct_method="INTEGER_ACCURATE",
        )
        pixels = tf.image.resize(pixels, self.image_shape[:2], antialias=True)
        if seed is not None and self.spec.flip:
            # The crop has drawn from `seed`; the mirror needs a stream of its own.
            draw = tf.random.stateless_uniform([], seed + [1, 0])
            pixels = tf.cond(draw < 0.5, lambda: pixels[:, ::-1], lambda: pixels)
        return tf.cast(tf.round(pixels), tf.uint8)

    def _guarded(self, batches: Any) -> Iterator[Batch]:
        """The batches, once their unreadable images are dealt with."""
        # Looked up here: a generator that is dropped when Python ends finds no modules.
        op_error = quiet.import_tensorflow().errors.OpError
        try:
            for batch in batches.as_numpy_iterator():
                for name in batch.pop("file_name")[~batch["readable"]].tolist():
                    self._report(name.decode())
                yield batch
        except op_error as error:
            raise InputError(
                f"{self.name} in {self._builder.data_dir} has a damaged file: "
                f"{error.message.splitlines()[0]}; delete that directory and prepare "
                "the set again"
            ) from error

    def _report(self, name: str) -> None:
        where = f"{name} of {self.name} in {self._builder.data_dir}"
        if not self.options.skip_corrupt:
            raise InputError(
                f"{where} is not a readable JPEG; prepare the set again, or leave such "
                "images out with --config.data.skip_corrupt=True"
            )
        if name not in self.corrupt:
            self.corrupt.add(name)
            logging.warning(
                "%s is not a readable JPEG and left out (%d so far)",
                where,
                len(self.corrupt),
            )


def _replace(batch: Batch, readable: np.ndarray, where: str) -> Batch:
    """Puts the next readable image in the place of each that is not."""
    good = np.flatnonzero(readable)
    if not len(good):
        raise InputError(f"none of the images of a whole batch is readable in {where}")
    rows = good[np.searchsorted(good, np.arange(len(readable))) % len(good)]
    return {name: value[rows] for name, value in batch.items()}


def _pad(batch: Batch, size: int) -> Batch:
    """Fills a batch up to ``size`` rows with zeros, whose mask is 0."""
    short = size - len(batch["label"])
    return {
        name: np.pad(value, [(0, short)] + [(0, 0)] * (value.ndim - 1))
        for name, value in batch.items()
    }
