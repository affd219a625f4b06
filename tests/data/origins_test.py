import dataclasses

import pytest

from optnet_jax import data
from optnet_jax.data import origins, source


@pytest.fixture
def photos(tmp_path):
    """A folder that a set of one's own is prepared from."""
    folder = tmp_path / "photos"
    (folder / "cat").mkdir(parents=True)
    for number in range(3):
        (folder / "cat" / f"{number}.jpg").write_bytes(b"photo")
    (tmp_path / "linked").mkdir()
    (folder / "more").symlink_to(tmp_path / "linked")
    (folder / "nowhere.jpg").symlink_to("gone")
    return folder


def load(own_set, folder):
    return data.load(own_set(sources=[str(folder)]), seed=0)


def said(caplog):
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "cat" / "3.jpg").write_bytes(b"photo"),
        lambda folder: (folder / "cat" / "2.jpg").write_bytes(b"another photo"),
        lambda folder: (folder / "cat" / "2.jpg").unlink(),
        lambda folder: (folder / "cat").rename(folder / "dog"),
        lambda folder: (folder.parent / "linked" / "1.jpg").write_bytes(b"more"),
    ],
)
def test_a_folder_that_has_changed_is_said_until_the_set_is_prepared_again(
    own_set, tmp_path, photos, caplog, change
):
    load(own_set, photos)
    load(own_set, photos)
    (photos / ".DS_Store").touch()
    load(own_set, photos)
    assert said(caplog) == []
    change(photos)
    prepared = tmp_path / "optnet_own" / "1.0.0"
    load(own_set, photos)
    assert said(caplog) == [
        f"{photos} has changed since a set was prepared from it: delete {prepared} to "
        "prepare it again"
    ]
    caplog.clear()
    prepared.rename(tmp_path / "away")
    load(own_set, photos)
    assert said(caplog) == []


def test_a_folder_that_is_gone_or_was_never_looked_at_is_nothing_to_say(
    own_set, tmp_path, photos, caplog
):
    load(own_set, photos)
    photos.rename(tmp_path / "moved")
    load(own_set, photos)
    load(own_set, tmp_path / "moved")
    (tmp_path / "optnet_own" / "1.0.0" / origins.FILE).unlink()
    photos.mkdir()
    load(own_set, photos)
    assert said(caplog) == []


def test_a_record_that_is_damaged_is_said(own_set, tmp_path, photos, caplog):
    load(own_set, photos)
    file = tmp_path / "optnet_own" / "1.0.0" / origins.FILE
    file.write_bytes(b"[")
    load(own_set, photos)
    (line,) = said(caplog)
    assert line.startswith(f"{file} is damaged (")


@pytest.mark.parametrize("manual", [True, False])
def test_an_archive_that_is_replaced(
    tmp_path, cifar_archive, no_network, caplog, manual
):
    """Which says nothing of a set that only the genuine archive will do for."""
    archive, _ = cifar_archive("cifar10", tmp_path / "downloads" / "manual")
    spec = dataclasses.replace(data.get_spec("cifar10"), manual=manual)
    for _ in range(2):
        source.prepared_builder(spec, str(tmp_path))
    assert said(caplog) == []
    archive.write_bytes(archive.read_bytes() + b"more")
    source.prepared_builder(spec, str(tmp_path))
    lines = [f"{archive} has changed since a set was prepared from it: "] * manual
    assert [line[: len(lines[0])] for line in said(caplog)] == lines
