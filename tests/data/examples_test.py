import io

import numpy as np
import pytest
from PIL import Image
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from optnet_jax.data import examples


def encoded(image, form="PNG"):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, form
    )
    return file.getvalue()


def record(content, *labels):
    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(content)
    example.features.feature["label"].int64_list.value.extend(labels)
    return example.SerializeToString()


def write(path, records):
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for content in records:
            writer.write(content)
    return str(path)


def images_of(channels, count=7):
    shape = (count, 5, 4, channels) if channels > 1 else (count, 5, 4)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_files_are_read_in_their_order(tmp_path, channels):
    images, labels = images_of(channels), [3, 0, -1, 2**40, 1, 9, 9]
    contents = [record(encoded(i), n) for i, n in zip(images, labels, strict=True)]
    files = [
        write(tmp_path / "1", contents[:4]),
        write(tmp_path / "2", []),
        write(tmp_path / "3", contents[4:]),
    ]
    found, numbers = examples.read(files, [4, 0, 3], channels)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, images.reshape(7, 5, 4, channels))
    assert numbers.tolist() == labels


def test_checksums_are_those_of_another_implementation():
    rng = np.random.default_rng(0)
    records = [rng.bytes(n) for n in (4, 5, 300, 301, 4, 77)]
    found = examples.checksums(records)
    assert found.tolist() == [masked_crc32c(content) for content in records]


@pytest.mark.parametrize("block", [1, 4096])
def test_every_flipped_byte_is_found(tmp_path, monkeypatch, block):
    monkeypatch.setattr(examples, "_BLOCK", block)
    records = [record(encoded(image), 1) for image in images_of(1, 2)]
    file = write(tmp_path / "file", records)
    sound = (tmp_path / "file").read_bytes()
    second = 16 + len(records[0])
    # Of a length the checksum is not looked at, but that of as many bytes.
    unread = {*range(8, 12), *range(second + 8, second + 12)}
    for place in sorted(set(range(len(sound))) - unread):
        damaged = bytearray(sound)
        damaged[place] ^= 1
        (tmp_path / "file").write_bytes(damaged)
        with pytest.raises(Exception, match="."):
            examples.read([file], [2], 1)


@pytest.mark.parametrize("length", [1, 8, 50, -1])
def test_a_file_that_is_cut_short(tmp_path, length):
    file = tmp_path / "file"
    write(file, [record(encoded(image), 1) for image in images_of(1, 2)])
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(Exception, match="."):
        examples.read([str(file)], [2], 1)


GREY = images_of(1)[0]


@pytest.mark.parametrize(
    "records",
    {
        "fewer": [],
        "JPEG": [record(encoded(GREY, "JPEG"), 1)],
        "16 bits": [record(encoded(GREY.astype(np.uint16)), 1)],
        "a palette": [record(encoded(Image.fromarray(GREY).convert("P")), 1)],
        "1 bit": [record(encoded(Image.fromarray(GREY).convert("1")), 1)],
        "other channels": [record(encoded(images_of(3)[0]), 1)],
        "no label": [record(encoded(GREY))],
        "two labels": [record(encoded(GREY), 1, 2)],
        "two sizes": [record(encoded(GREY), 1), record(encoded(GREY[1:]), 1)],
        "no example": [b"to be or not to be"],
    }.items(),
    ids=lambda item: item[0],
)
def test_anything_else_is_refused(tmp_path, records):
    _, contents = records
    file = write(tmp_path / "file", contents)
    with pytest.raises(Exception, match="."):
        examples.read([file], [max(1, len(contents))], 1)
