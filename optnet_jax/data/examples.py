"""The examples of a small set, read without TensorFlow, whose import takes seconds."""

import io
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import CRC_TABLE
from tensorflow_datasets.proto import tf_example_pb2

from optnet_jax.data.pictures import MODES

# Records whose checksums are worked out at once.
_BLOCK = 4096
_TABLE = np.array(CRC_TABLE, np.uint32)


def read(
    files: Sequence[str], lengths: Sequence[int], channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read TFRecord files of ``tf.train.Example`` with a PNG image and a label.

    TensorFlow decodes a PNG to the same pixels; other images it may round otherwise.

    Returns:
        The images, uint8 [N, H, W, C], and the labels, int64 [N].

    Raises:
        ValueError: if a file is damaged, or holds anything else. Pillow, protobuf and
            the file system raise errors of their own.
    """
    images, labels = [], []
    for file, length in zip(files, lengths, strict=True):
        records = list(_records(Path(file).read_bytes()))
        if len(records) != length:
            raise ValueError(f"{file} has {len(records)} records instead of {length}")
        for record in records:
            example = tf_example_pb2.Example.FromString(record)  # pyright: ignore
            feature = example.features.feature
            (content,) = feature["image"].bytes_list.value
            (label,) = feature["label"].int64_list.value
            images.append(_pixels(content, channels))
            labels.append(label)
    pixels = np.stack(images)
    return pixels.reshape(*pixels.shape[:3], channels), np.asarray(labels)


def _pixels(content: bytes, channels: int) -> np.ndarray:
    image = Image.open(io.BytesIO(content), formats=("PNG",))
    depth = content[24]  # in the chunk that comes first
    if image.mode != MODES.get(channels) or depth != 8:
        raise ValueError(f"an image is {image.mode} of {depth} bits a channel")
    return np.asarray(image)


def _records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a file.

    Source: https://www.tensorflow.org/tutorials/load_data/tfrecord, "TFRecords format
    details".
    """
    found, wanted, place = [], [], 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        start, place = place + 12, place + 16 + length
        found.append(content[start : start + length])
        # Where the length is wrong, this is not its checksum either.
        wanted.append(struct.unpack_from("<I", content, place - 4)[0])
    for first in range(0, len(found), _BLOCK):
        block = slice(first, first + _BLOCK)
        if not np.array_equal(checksums(found[block]), wanted[block]):
            raise ValueError("a record is damaged")
    yield from found


def checksums(records: Sequence[bytes]) -> np.ndarray:
    """Return TFRecord's masked CRC-32C of records, all of them a byte at a time.

    A zero before a record changes nothing while the register is zero: it begins as all
    ones, which is the same as to begin at zero with the first four bytes inverted.

    Args:
        records: each of four bytes at least.

    Returns:
        uint32 [N].
    """
    lengths = np.array([len(record) for record in records])
    longest = lengths.max()
    rows = b"".join(record.rjust(longest, b"\0") for record in records)
    columns = np.frombuffer(rows, np.uint8).reshape(len(records), -1).T.copy()
    for byte in range(4):
        columns[longest - lengths + byte, np.arange(len(records))] ^= 0xFF
    crc = np.zeros(len(records), np.uint32)
    for column in columns:
        crc = _TABLE[(crc ^ column) & 0xFF] ^ (crc >> 8)
    crc = ~crc
    return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)
