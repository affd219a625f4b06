"""Which records of a split make up which rows of a batch, and how they are read.

The files of a split, in the order of an epoch, are one sequence of records. It is cut
into V equal streams, where V depends on the batch size only: rows
[v B/V, (v+1) B/V) of every batch of B come from stream v. A process opens the streams
that its rows come from and no others, so that P processes that divide V read 1/P of the
split each; and what a row holds does not depend on P.

A file may be damaged. A record that cannot be read keeps its place in its stream, or
all that come after it would move: it is replaced by one from the start of its file, and
marked.
"""

import contextlib
import enum
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from optnet_jax.data import features, quiet
from optnet_jax.runs import files

tf: Any = quiet.import_tensorflow()

# AutoGraph rewrites Python's `if` and `for` over tensors, of which our functions have
# none, and warns in pages where it cannot, as on Python 3.13.
as_written = tf.autograph.experimental.do_not_convert

MAX_STREAMS = 64
# Files that a stream reads in turns; they share what its shuffling mixes.
FILES_AT_ONCE = 4


class Status(enum.IntEnum):
    """What a row of a batch holds."""

    SOUND = 0
    PADDING = 1
    """nothing: the split has ended."""
    BAD_IMAGE = 2
    """another image of its file, since its own is not readable."""
    BAD_FILE = 3
    """a record of the start of its file, which cannot be read to here."""
    LOST = 4
    """nothing: its file has no readable image."""


def stream_count(batch_size: int) -> int:
    """V: the largest divisor of the batch size that is at most ``MAX_STREAMS``.

    >>> [stream_count(size) for size in (1, 64, 256, 96, 100, 67)]
    [1, 64, 64, 48, 50, 1]
    """
    return max(n for n in range(1, MAX_STREAMS + 1) if batch_size % n == 0)


class Streams(NamedTuple):
    """A split as a sequence of records that is cut into equal streams.

    Stream v is made of the pieces [bounds[v], bounds[v+1]); piece i is ``take[i]``
    records of ``files[i]`` after its first ``skip[i]``.

    Attributes:
        files: [pieces] paths.
        skip: [pieces] int64.
        take: [pieces] int64, all positive.
        bounds: [V + 1] int64.
    """

    files: np.ndarray
    skip: np.ndarray
    take: np.ndarray
    bounds: np.ndarray

    @classmethod
    def cut(cls, files: Sequence[str], lengths: Sequence[int], count: int) -> Self:
        """Cut files into streams that differ by one record at most.

        Args:
            files: their paths, in the order in which they are read.
            lengths: how many records each of them has.
            count: V.
        """
        ends = np.cumsum(np.asarray(lengths, np.int64))
        limits = ends[-1] * np.arange(count + 1) // count
        cuts = np.unique(np.concatenate([limits, ends]))
        starts = cuts[:-1]
        file = np.searchsorted(ends, starts, side="right")
        return cls(
            files=np.asarray(files)[file],
            skip=starts - (ends - lengths)[file],
            take=np.diff(cuts),
            bounds=np.searchsorted(starts, limits),
        )

    @property
    def number(self) -> int:
        """V."""
        return len(self.bounds) - 1


def damaged_file(builder: Any, split: str) -> str | None:
    """Return the first file of a split that holds fewer records than it should."""
    for file, length in zip(*features.files_of(builder, split), strict=True):
        if _count(file)[0] != length:
            return file
    return None


def describe(file: str) -> str:
    """Say how far a TFRecord file can be read, and what follows there.

    Raises:
        InputError: if it is whole for all that is known, but may not be read.

    >>> describe("nowhere.tfrecord")
    '0 records can be read, then: nowhere.tfrecord; No such file or directory'
    """
    with (
        files.readable(": give read permission, or see to its disk"),
        contextlib.suppress(FileNotFoundError),
    ):
        open(file, "rb").close()
    count, end = _count(file)
    return f"{count:,} records can be read, then: {end}"


def _count(file: str) -> tuple[int, str]:
    """Return the records of a file, to its end or to where it is damaged."""
    count, end = 0, "the end"
    try:
        for _ in tf.data.TFRecordDataset(file):
            count += 1
    except tf.errors.OpError as error:
        # TensorFlow puts the place in its graph before and behind.
        end = error.message.splitlines()[0].split("}} ")[-1].split(" [Op:")[0]
    return count, end


@as_written
def read(
    streams: Streams,
    *,
    batch_size: int,
    rows: range,
    steps: range,
    shuffle_buffer: int = 1,
    shuffle_seeds: np.ndarray | None = None,
) -> Any:
    """Return the undecoded records of some rows of some batches, batch by batch.

    Args:
        streams: the split.
        batch_size: B, over all processes together; a multiple of V.
        rows: the rows that are asked for.
        steps: the batches that are asked for. The records of earlier ones are read and
            dropped; where a stream has too few, it is padded.
        shuffle_buffer: records that a stream shuffles at a time.
        shuffle_seeds: int64 [V], one for each stream; without, nothing is shuffled.

    Returns:
        ``tf.data.Dataset`` of: ``number``, int64, the place of the row in the epoch,
        step * B + row; ``record``, the bytes of a ``tf.train.Example``; ``file``, the
        path that it comes from; ``place``, int64, how many records are before it
        there; ``status``, int64, a :class:`Status`.
    """
    block = batch_size // streams.number
    files, skip, take, bounds = map(
        tf.constant, (streams.files, streams.skip, streams.take, streams.bounds)
    )
    seeds = None if shuffle_seeds is None else tf.constant(shuffle_seeds)

    def stream(index: Any) -> Any:
        pieces = slice(bounds[index], bounds[index + 1])
        records = tf.data.Dataset.from_tensor_slices(
            (files[pieces], skip[pieces], take[pieces])
        ).interleave(_read_piece, cycle_length=FILES_AT_ONCE)
        if seeds is not None:
            records = records.shuffle(
                shuffle_buffer, seeds[index], reshuffle_each_iteration=False
            )
        records = records.concatenate(_nothing("", Status.PADDING))
        return records.take(steps.stop * block).skip(steps.start * block)

    first, last = rows.start // block, -(-rows.stop // block)
    width = (last - first) * block
    records = tf.data.Dataset.range(first, last).interleave(
        stream,
        cycle_length=last - first,
        block_length=block,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )

    def number(place: Any, record: dict[str, Any]) -> dict[str, Any]:
        row = first * block + place % width
        return record | {"number": (steps.start + place // width) * batch_size + row}

    records = records.enumerate().map(number)
    if (first * block, last * block) == (rows.start, rows.stop):
        return records
    # Processes that do not divide V read a stream at their border twice.
    return records.filter(
        lambda record: (
            (record["number"] % batch_size >= rows.start)
            & (record["number"] % batch_size < rows.stop)
        )
    )


@as_written
def sound_records(file: Any, skip: Any = 0, take: Any = -1) -> Any:
    """Return the records of a file up to where it is damaged, as a ``tf.data.Dataset``.

    Args:
        file: scalar string tensor, its path.
        skip: records to leave out at its start.
        take: records at most; -1 for all.
    """

    def probe(file: Any) -> tuple[Any, Any]:
        return file, tf.data.TFRecordDataset(file).take(1).get_single_element()

    def read_file(file: Any, _: Any) -> Any:
        return tf.data.TFRecordDataset(file).skip(skip).take(take).ignore_errors()

    # A file that cannot be opened gives its error again and again, not once like one
    # that is damaged further on: ignoring it would not end.
    files = tf.data.Dataset.from_tensors(file).map(probe).ignore_errors()
    return files.flat_map(read_file)


def _read_piece(file: Any, skip: Any, take: Any) -> Any:
    """``take`` records of a file, whatever its state."""

    def marked(records: Any, status: Status) -> Any:
        return tf.data.Dataset.zip(
            {
                "record": records,
                "file": tf.data.Dataset.from_tensors(file).repeat(),
                "place": tf.data.Dataset.range(skip, tf.int64.max),
                "status": tf.data.Dataset.from_tensors(np.int64(status)).repeat(),
            }
        )

    records = marked(sound_records(file, skip, take), Status.SOUND)
    records = records.concatenate(marked(sound_records(file), Status.BAD_FILE).repeat())
    return records.concatenate(_nothing(file, Status.LOST)).take(take)


def _nothing(file: Any, status: Status) -> Any:
    """Endless entries without a record."""
    entry = {
        "record": tf.constant(""),
        "file": tf.convert_to_tensor(file),
        "place": tf.constant(0, tf.int64),
        "status": tf.constant(int(status), tf.int64),
    }
    return tf.data.Dataset.from_tensors(entry).repeat()
