"""Small archives in the layout of the genuine ones, and a machine without a network."""

import gzip
import io
import socket
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download import checksums

from optnet_jax.data import SPECS, Spec, archives, source

CIFAR_FILES = {
    "cifar10": {
        "train": [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)],
        "test": ["cifar-10-batches-bin/test_batch.bin"],
        "labels": {"cifar-10-batches-bin/batches.meta.txt": 10},
    },
    "cifar100": {
        "train": ["cifar-100-binary/train.bin"],
        "test": ["cifar-100-binary/test.bin"],
        "labels": {
            "cifar-100-binary/coarse_label_names.txt": 20,
            "cifar-100-binary/fine_label_names.txt": 100,
        },
    },
}


def take_for_genuine(monkeypatch, name, directory):
    """Let TFDS expect the archives of a set as they are in a folder."""
    cls = tfds.builder_cls(name)
    infos = {
        archive.url: checksums.compute_url_info(directory / file)
        for file, archive in archives.archives_of(cls).items()
    }
    monkeypatch.setattr(cls, "url_infos", infos)


def add_file(archive, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def cifar_records(rng, count, classes):
    """``count`` records: the label bytes, then 3072 bytes, channel by channel."""
    labels = rng.integers(0, classes, (count, len(classes)))
    pixels = rng.integers(0, 256, (count, 3072))
    return np.concatenate([labels, pixels], axis=1).astype(np.uint8)


@pytest.fixture
def cifar_archive(monkeypatch):
    """Makes an archive that TFDS takes for the genuine one; returns its records."""

    def make(name, directory, num_train=20, num_test=7):
        layout = CIFAR_FILES[name]
        rng = np.random.default_rng(1)
        directory.mkdir(parents=True, exist_ok=True)
        (file,) = archives.archives_of(tfds.builder_cls(name))
        path = directory / file
        records = {}
        with tarfile.open(path, "w:gz") as archive:
            for file, count in layout["labels"].items():
                names = "\n".join(f"class {i}" for i in range(count))
                add_file(archive, file, names.encode())
            for split, count in (("train", num_train), ("test", num_test)):
                files = layout[split]
                table = cifar_records(rng, count, list(layout["labels"].values()))
                records[split] = table
                for file, part in zip(
                    files, np.array_split(table, len(files)), strict=True
                ):
                    add_file(archive, file, part.tobytes())
        take_for_genuine(monkeypatch, name, directory)
        return path, records

    return make


@pytest.fixture
def fashion_archives(monkeypatch):
    """Makes Fashion-MNIST's four archives, small; returns the images of each split."""

    def make(directory, num_train=20, num_test=7):
        from tensorflow_datasets.image_classification import mnist

        monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", num_train)
        monkeypatch.setattr(mnist, "_TEST_EXAMPLES", num_test)
        rng = np.random.default_rng(3)
        directory.mkdir(parents=True, exist_ok=True)
        images = {}
        for split, count in (("train", num_train), ("t10k", num_test)):
            images[split] = rng.integers(0, 256, (count, 28, 28, 1), np.uint8)
            labels = rng.integers(0, 10, count, np.uint8)
            for name, header, array in (
                (f"{split}-images-idx3-ubyte", 16, images[split]),
                (f"{split}-labels-idx1-ubyte", 8, labels),
            ):
                stamp = archives.STAMPS[f"{name}.gz"]
                with (
                    (directory / f"{name}.gz").open("wb") as file,
                    gzip.GzipFile(name, "wb", 9, file, mtime=stamp) as packed,
                ):
                    packed.write(bytes(header) + array.tobytes())
        take_for_genuine(monkeypatch, "fashion_mnist", directory)
        return images

    return make


def jpeg(rng, height, width):
    """A JPEG of random colours, all channels at full size."""
    colours = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    image = Image.fromarray(colours).resize((width, height), Image.Resampling.BILINEAR)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=95, subsampling=0)
    return content.getvalue()


@pytest.fixture(scope="session")
def imagenet_archives():
    """Makes both archives of ImageNet, small; returns the images by their names."""

    def make(directory, num_train=23, num_eval=7, corrupt=()):
        rng = np.random.default_rng(2)
        directory.mkdir(parents=True, exist_ok=True)
        images = {}

        def photograph(archive, name):
            size = (int(side) for side in rng.integers(24, 64, 2))
            content = b"not a JPEG" if name in corrupt else jpeg(rng, *size)
            images[name] = content
            add_file(archive, name, content)

        with tarfile.open(directory / "ILSVRC2012_img_train.tar", "w") as archive:
            # Classes 0, 1 and 2 in TFDS's order.
            for label, synset in enumerate(("n01440764", "n01443537", "n01484850")):
                inner = io.BytesIO()
                with tarfile.open(fileobj=inner, mode="w") as part:
                    for number in range(label, num_train, 3):
                        photograph(part, f"{synset}_{number}.JPEG")
                add_file(archive, f"{synset}.tar", inner.getvalue())
        with tarfile.open(directory / "ILSVRC2012_img_val.tar", "w") as archive:
            for number in range(1, num_eval + 1):
                photograph(archive, f"ILSVRC2012_val_{number:08d}.JPEG")
        return images

    return make


@pytest.fixture
def no_network(monkeypatch):
    """No name resolves, as on a cluster node without a route to the internet."""

    def getaddrinfo(host, *args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def prepared_digits(tmp_path_factory):
    """The builder of a prepared ``optnet_digits``, which no test changes."""
    directory = tmp_path_factory.mktemp("digits")
    return source.prepared_builder(SPECS["optnet_digits"], str(directory))


class OptnetOwn(tfds.core.GeneratorBasedBuilder):
    """A builder as a user writes it; a test says what it holds."""

    VERSION = tfds.core.Version("1.0.0")
    SUPPORTED_VERSIONS = []
    features, splits = {}, {}

    def _info(self):
        features = tfds.features.FeaturesDict(self.features)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {
            name: self._generate_examples(examples)
            for name, examples in self.splits.items()
        }

    def _generate_examples(self, examples):
        yield from enumerate(examples)


@pytest.fixture
def own_set(tmp_path, monkeypatch):
    """Declares a set of one's own in the table; returns what ``data.load`` needs.

    Unless a test says otherwise: images of 4x4 pixels, of any size in a streamed set,
    and three classes. A black image may be given by its label.
    """

    def make(
        train=(1, 1, 1, 1), test=None, image=None, label=None, features=None, **fields
    ):
        kinds, side = tfds.features, None if fields.get("streamed") else 4
        features = features or {
            "image": image or kinds.Image(shape=(side, side, 3)),
            "label": label or kinds.ClassLabel(num_classes=3),
        }
        if isinstance(train, tuple):
            black = np.zeros((4, 4, 3), np.uint8)
            train = [{"image": black, "label": label} for label in train]
        splits = {"train": train, "test": train if test is None else test}
        monkeypatch.setattr(OptnetOwn, "features", features)
        monkeypatch.setattr(OptnetOwn, "splits", splits)
        fields = {"num_classes": 3, "image_shape": (4, 4, 3)} | fields
        channels = fields["image_shape"][2]
        fields = {"mean": (0.5,) * channels, "std": (0.5,) * channels} | fields
        monkeypatch.setitem(SPECS, "optnet_own", Spec("optnet_own", **fields))
        return {"dataset": "optnet_own", "data_dir": str(tmp_path), "batch_size": 2}

    return make
