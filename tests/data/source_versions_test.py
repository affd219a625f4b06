import json

import numpy as np
import pytest

from optnet_jax import data
from optnet_jax.data import arrays, source
from optnet_jax.errors import InputError


def as_version(folder, version):
    """Makes a prepared set one that another version of its builder has prepared."""
    other = folder.rename(folder.with_name(version))
    file = other / "dataset_info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": version}))
    return other


@pytest.fixture
def cifar(tmp_path, cifar_archive, no_network):
    """CIFAR-10 as version 3.0.1 left it, its archive deleted, and its records."""
    archive, _ = cifar_archive("cifar10", tmp_path / "downloads" / "manual")
    builder = source.prepared_builder(data.get_spec("cifar10"), str(tmp_path))
    archive.unlink()
    images = arrays.read_split(builder, "train").images
    return as_version(tmp_path / "cifar10" / "3.0.2", "3.0.1"), images


def prepared(tmp_path, name="cifar10"):
    return source.prepared_builder(data.get_spec(name), str(tmp_path))


def test_a_version_of_imagenet_that_the_builder_supports(
    tmp_path, imagenet_archives, caplog
):
    manual = tmp_path / "downloads" / "manual"
    imagenet_archives(manual)
    prepared(tmp_path, "imagenet2012")
    folder = as_version(tmp_path / "imagenet2012" / "5.1.0", "5.0.0")
    caplog.clear()
    # It is as good as 5.1.0: that is not prepared although it could be.
    config = {"dataset": "imagenet2012", "data_dir": str(tmp_path), "batch_size": 7}
    found = data.load(config | {"image_size": 8}, seed=0)
    assert found.split.startswith("imagenet2012 5.0.0: train 23, validation 7 ")
    assert sum(batch["mask"].sum() for batch in found.eval_batches()) == 7
    line = f"imagenet2012 5.1.0 is not prepared: using {folder}"
    # And no library has anything to add, on any Python.
    assert [record.getMessage() for record in caplog.records][-1] == line
    assert [path.name for path in folder.parent.iterdir()] == ["5.0.0"]


def test_a_version_unknown_to_the_builder_is_used_where_there_is_no_other_way(
    tmp_path, cifar
):
    folder, images = cifar
    builder = prepared(tmp_path)
    assert (str(builder.version), builder.data_dir) == ("3.0.1", str(folder))
    np.testing.assert_array_equal(arrays.read_split(builder, "train").images, images)


def test_the_newest_version_that_can_be_read(tmp_path, cifar):
    folder, _ = cifar
    for version in ("3.0.10", "4.0.0"):
        (folder.with_name(version)).mkdir()
    for file in folder.iterdir():
        folder.with_name("3.0.10").joinpath(file.name).write_bytes(file.read_bytes())
    as_version(folder.with_name("3.0.10"), "3.0.10")
    assert str(prepared(tmp_path).version) == "3.0.10"


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (
            lambda folder: (folder / "dataset_info.json").unlink(),
            "its version 3.0.1 there is of no use: .*/3.0.1 cannot be read .*info.json",
        ),
        (
            lambda folder: (folder / "features.json").unlink(),
            "its version 3.0.1 there is of no use: .*/3.0.1 cannot be read .*old TFDS",
        ),
        (
            lambda folder: (folder / "features.json").write_text("[1]"),
            "its version 3.0.1 there is of no use: .*/3.0.1 cannot be read ",
        ),
        (
            lambda folder: (folder / "label.labels.txt").write_text("cat"),
            "its version 3.0.1 there is of no use: .* has 1 classes, its Spec says",
        ),
        # Half prepared.
        (lambda folder: folder.rename(folder.with_name("incomplete.A1B2C3_3.0.1")), ""),
    ],
)
def test_a_version_of_no_use_is_named_where_the_set_is_missing(
    tmp_path, cifar, damage, fault
):
    folder, _ = cifar
    damage(folder)
    with pytest.raises(
        InputError, match=r"put cifar-10-binary\.tar\.gz .*/manual"
    ) as e:
        prepared(tmp_path)
    assert e.match("; " + fault if fault else "manual$")
    assert "\n" not in str(e.value)


def test_a_set_of_ones_own_is_prepared_again_when_its_version_is_raised(
    own_set, tmp_path
):
    data.load(own_set(), seed=0)
    as_version(tmp_path / "optnet_own" / "1.0.0", "0.9.0")
    found = data.load(own_set((1,) * 5), seed=0)
    assert found.split.startswith("optnet_own 1.0.0: train 5")
