import numpy as np
import pytest

from optnet_jax.data import records
from optnet_jax.data.records import Streams
from optnet_jax.errors import InputError


def numbered(streams, index):
    """The (file, place in it) of every record of a stream."""
    return [
        (streams.files[piece], place)
        for piece in range(*streams.bounds[index : index + 2])
        for place in range(
            streams.skip[piece], streams.skip[piece] + streams.take[piece]
        )
    ]


@pytest.mark.parametrize(
    ("lengths", "count"),
    [([5], 1), ([5], 3), ([4, 4, 4], 3), ([7, 0, 1, 9], 4), ([3, 2], 8), ([10] * 9, 4)],
)
def test_streams_have_every_record_once_in_order(lengths, count):
    files = [f"file {index}" for index in range(len(lengths))]
    streams = Streams.cut(files, lengths, count)
    found = [numbered(streams, index) for index in range(count)]
    assert streams.number == count
    assert sum(found, []) == [
        (file, place)
        for file, length in zip(files, lengths, strict=True)
        for place in range(length)
    ]
    sizes = {len(part) for part in found}
    assert max(sizes) - min(sizes) <= 1
    assert streams.take.min() > 0


def test_a_file_that_cannot_be_opened_is_not_called_damaged(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(Is a dir.*: give read per"):
        records.describe(str(tmp_path))


def test_each_of_imagenets_streams_is_long_enough_for_an_epoch():
    lengths = np.full(1024, 1251)
    lengths[: 1_281_167 - lengths.sum()] += 1
    count = records.stream_count(256)
    streams = Streams.cut([""] * 1024, lengths, count)
    sizes = np.add.reduceat(streams.take, streams.bounds[:-1])
    assert sizes.min() >= 1_281_167 // 256 * 256 // count
    # So that a process of many reads little that it does not use.
    assert np.diff(streams.bounds).max() <= 17
