"""Large datasets: images read from disk, cut out, resized and mirrored by ``tf.data``.

A batch is a function of (seed, step), whatever the number of processes: its rows come
from streams that every process would cut alike (:mod:`.records`). In epoch e the files
and then each stream's records are shuffled by (seed, e); the record at place i of the
epoch is augmented by (seed, e, i). To go on at a step, the records before it are
skipped undecoded.

An image that cannot be read ends the run by name. If ``data.skip_corrupt`` says so, it
is counted, and replaced: in training by another image of its file, in evaluation by
padding.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from optnet_jax.configuration.train import Data as Options
from optnet_jax.data import arrays, crops, features, quiet, records
from optnet_jax.data.dataset import Dataset
from optnet_jax.data.records import Status
from optnet_jax.data.spec import Spec
from optnet_jax.errors import InputError

tf: Any = quiet.import_tensorflow()

Batch = dict[str, np.ndarray]

# Parallel decodes; tf.data finds how many of them pay.
DECODERS = 64


class StreamDataset(Dataset):
    """A dataset that is read from disk while it is used.

    Its builder has the features ``image``, ``label`` and, where images have names,
    ``file_name``.

    Attributes:
        corrupt: names of the images, and of the files of records, that were not
            readable, so far.

    Raises:
        InputError: if the set is not stored as TFRecord files; and while iterating, at
            an image that cannot be read.
    """

    def __init__(self, spec: Spec, options: Options, builder: Any, *, seed: int):
        splits = builder.info.splits
        super().__init__(
            spec,
            options,
            num_train=splits["train"].num_examples,
            num_eval=splits[spec.eval_split].num_examples,
            version=str(builder.version),
            fingerprint=features.fingerprint(spec, builder),
            class_names=features.class_names(builder),
        )
        self.corrupt: set[str] = set()
        self._builder = builder
        self._seed = seed
        self._rows = range(self.first_row, self.first_row + self.local_batch_size)
        self._streams = records.stream_count(self.batch_size)
        self._files = {
            split: features.files_of(builder, split)
            for split in ("train", spec.eval_split)
        }
        # Traced once, and not twice in every epoch.
        self._example = tf.function(self._decode, autograph=False)

    def train_batches(self, start_step: int = 0) -> Iterator[Batch]:
        """See :meth:`Dataset.train_batches`."""
        first_epoch, step = divmod(start_step, self.steps_per_epoch)
        for epoch in itertools.count(first_epoch):
            for batch in self._checked(self._train_epoch(epoch, step)):
                del batch["status"]
                yield batch
            step = 0

    def eval_batches(self) -> Iterator[Batch]:
        """See :meth:`Dataset.eval_batches`."""
        for batch in self._checked(self._evaluation()):
            sound = batch.pop("status") == Status.SOUND
            yield batch | {"mask": sound.astype(np.float32)}

    def _train_epoch(self, epoch: int, first_step: int) -> Any:
        """Return the training batches of an epoch from a step of it onwards."""
        files, lengths = self._files["train"]
        words = np.random.SeedSequence([self._seed, epoch]).generate_state(
            1 + self._streams + len(files)
        )
        augment_seed, *shuffle_seeds = (words[: 1 + self._streams] >> 1).tolist()
        order = np.argsort(words[1 + self._streams :], kind="stable")
        entries = records.read(
            records.Streams.cut(
                [files[index] for index in order],
                [lengths[index] for index in order],
                self._streams,
            ),
            batch_size=self.batch_size,
            rows=self._rows,
            steps=range(first_step, self.steps_per_epoch),
            shuffle_buffer=-(-self.options.shuffle_buffer // self._streams),
            shuffle_seeds=np.asarray(shuffle_seeds, np.int64),
        )
        return self._decoded(entries, augment_seed if self.options.augment else None)

    def _evaluation(self) -> Any:
        files, lengths = self._files[self.spec.eval_split]
        entries = records.read(
            records.Streams.cut(files, lengths, self._streams),
            batch_size=self.batch_size,
            rows=self._rows,
            steps=range(-(-self.num_eval // self.batch_size)),
        )
        return self._decoded(entries, None)

    @records.as_written
    def _decoded(self, entries: Any, augment_seed: int | None) -> Any:
        """Batches of what :func:`records.read` gives, in the same order."""
        seed = None if augment_seed is None else tf.constant(augment_seed, tf.int32)

        def normalised(batch: dict[str, Any]) -> dict[str, Any]:
            pixels = tf.cast(batch["image"], tf.float32)
            return batch | {"image": self.preprocessing.normalise(pixels)}

        batches = (
            entries.interleave(
                lambda entry: self._row(entry, seed),
                cycle_length=DECODERS,
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            .batch(self.local_batch_size)
            .map(normalised, num_parallel_calls=tf.data.AUTOTUNE)
        )
        return batches.prefetch(tf.data.AUTOTUNE)

    def _row(self, entry: dict[str, Any], augment_seed: Any) -> Any:
        """Return one element: the record's own image, another of its file, or nothing.

        An error is caught by a dataset, so each candidate is a dataset.
        """

        def image_of(record: Any) -> dict[str, Any]:
            image = self._example(record, entry["number"], augment_seed)
            return image | {"status": entry["status"]}

        def other(record: Any) -> dict[str, Any]:
            return image_of(record) | {
                "file_name": self._parse(entry["record"])["file_name"],
                "status": tf.constant(int(Status.BAD_IMAGE), tf.int64),
            }

        padding = entry["status"] == int(Status.PADDING)
        # TensorFlow would say of each row of padding that it cannot be parsed.
        record = tf.data.Dataset.from_tensors(entry["record"])
        own = record.take(tf.where(padding, np.int64(0), np.int64(1))).map(image_of)
        others = records.sound_records(entry["file"]).map(other)
        status = tf.where(padding, int(Status.PADDING), int(Status.LOST))
        nothing = {
            "image": tf.zeros(self.image_shape, tf.uint8),
            "label": tf.zeros([], tf.int32),
            "file_name": tf.constant(""),
            "status": tf.cast(status, tf.int64),
        }
        lost = tf.data.Dataset.from_tensors(nothing)
        candidates = own.ignore_errors().concatenate(others.ignore_errors())
        origin = {"file": entry["file"], "place": entry["place"]}
        return candidates.concatenate(lost).take(1).map(lambda row: row | origin)

    def _image(self, encoded: Any, seed: Any) -> Any:
        """Return an image, uint8 [H, W, C]; a random part of it where there is a seed.

        Of a JPEG only the part that is seen is decoded; a PNG, TFDS's default, and what
        else TensorFlow reads is decoded whole.
        """
        channels = self.image_shape[2]

        def part_of_jpeg() -> Any:
            height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(encoded))
            # TensorFlow's default is a faster transform, off by up to 9 grey levels;
            # this one gives Pillow's pixels, and so those of published weights.
            return tf.image.decode_and_crop_jpeg(
                encoded,
                self._window(height, width, seed),
                channels=channels,
                dct_method="INTEGER_ACCURATE",
            )

        def part_of_other() -> Any:
            pixels = tf.io.decode_image(encoded, channels, expand_animations=False)
            height, width, _ = tf.unstack(tf.shape(pixels))
            top, left, rows, columns = tf.unstack(self._window(height, width, seed))
            return pixels[top : top + rows, left : left + columns]

        encoding = self._builder.info.features["image"].encoding_format
        # Not asked of each image: an error inside a branch of tf.cond does not end.
        part = part_of_jpeg if encoding == "jpeg" else part_of_other
        pixels = tf.ensure_shape(part(), (None, None, channels))
        pixels = tf.image.resize(pixels, self.image_shape[:2], antialias=True)
        if seed is not None and self.spec.flip:
            # The crop has drawn from `seed`; the mirror needs a stream of its own.
            draw = tf.random.stateless_uniform([], seed + [1, 0])
            pixels = tf.cond(draw < 0.5, lambda: pixels[:, ::-1], lambda: pixels)
        return tf.cast(tf.round(pixels), tf.uint8)

    def _window(self, height: Any, width: Any, seed: Any) -> Any:
        """Return the part of an image that is seen: (top, left, height, width)."""
        share = self.preprocessing.share
        if seed is None:
            return crops.central(height, width, share)
        if self.options.crop == "fixed":
            return crops.fixed(height, width, seed, share)
        return crops.random_resized(height, width, seed)

    def _decode(self, record: Any, number: Any, augment_seed: Any) -> dict[str, Any]:
        """Return a ``tf.train.Example`` with its image decoded, cropped and resized."""
        example = self._parse(record)
        seed = None
        if augment_seed is not None:
            seed = tf.stack([augment_seed, tf.cast(number, tf.int32)])
        return {
            "image": self._image(example["image"], seed),
            "label": tf.cast(example["label"], tf.int32),
            "file_name": example["file_name"],
        }

    def _parse(self, record: Any) -> dict[str, Any]:
        """Return the features of a ``tf.train.Example``, the image undecoded.

        The name of its file is empty where the set tells none.
        """
        skip = {"image": tfds.decode.SkipDecoding()}
        declared = self._builder.info.features
        example = declared.deserialize_example(record, decoders=skip)
        return {"file_name": tf.constant(""), **example}

    def _checked(self, batches: Any) -> Iterator[Batch]:
        """Yield the batches, once what could not be read is reported."""
        for batch in batches.as_numpy_iterator():
            files = [file.decode() for file in batch.pop("file")]
            origins = [
                (file, name.decode() or f"record {place} of {Path(file).name}")
                for file, name, place in zip(
                    files, batch.pop("file_name"), batch.pop("place"), strict=True
                )
            ]
            for row in np.flatnonzero(batch["status"] > Status.PADDING):
                self._report(Status(batch["status"][row]), *origins[row])
            labels = batch["label"]
            for row in np.flatnonzero((labels < 0) | (labels >= self.num_classes)):
                what = f"{origins[row][1]} in {Path(origins[row][0]).parent}"
                raise InputError(arrays.not_a_class(self.spec, labels[row], what))
            yield batch

    def _report(self, status: Status, file: str, name: str) -> None:
        """End the run, or count an image or a file that cannot be read."""
        what = name if status == Status.BAD_IMAGE else Path(file).name
        if what in self.corrupt and status != Status.LOST:
            return
        where = f"{what} of {self.name} in {self._builder.data_dir}"
        if status == Status.LOST:
            raise InputError(
                f"{where} has no readable image ({records.describe(file)}); delete "
                "that directory and prepare the set again"
            )
        if status == Status.BAD_IMAGE:
            fault = f"{where} is not a readable image"
        else:
            fault = f"{where} is damaged ({records.describe(file)})"
        if not self.options.skip_corrupt:
            raise InputError(
                f"{fault}; prepare the set again, or leave such images out with "
                "--config.data.skip_corrupt=True"
            )
        self.corrupt.add(what)
        logging.warning("%s; left out (%d so far)", fault, len(self.corrupt))
