import errno
import hashlib
import os

import pytest
from absl import logging

from optnet_jax.data import archives, spec
from optnet_jax.errors import InputError

SPEC = spec.get_spec("imagenet2012")
GENUINE = archives.Archive("https://host/train.tar", 147_897_477_120, "0" * 64)


@pytest.fixture
def train(tmp_path, imagenet_archives):
    imagenet_archives(tmp_path)
    return tmp_path / "ILSVRC2012_img_train.tar"


def test_what_tfds_knows_of_imagenet():
    from optnet_jax.data import source

    found = archives.archives_of(source.find_builder(SPEC, ""))
    sizes = {name: archive.size for name, archive in found.items()}
    assert sizes == {
        "ILSVRC2012_img_train.tar": 147_897_477_120,
        "ILSVRC2012_img_val.tar": 6_744_924_160,
    }
    assert all(len(archive.sha256) == 64 for archive in found.values())


def test_an_archive_is_there_or_not_and_may_be_a_link(train):
    link = train.with_name("link.tar")
    link.symlink_to(train)
    assert [archives.is_there(path) for path in (train, link)] == [True, True]
    assert not archives.is_there(train.with_name("nothing.tar"))


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.symlink_to("gone"), "is a link to .*/gone, which is not"),
        (lambda path: path.symlink_to(path), "is not a regular file"),
    ],
)
def test_what_has_the_place_of_an_archive_is_named(tmp_path, place, fault):
    path = tmp_path / "cifar-10-binary.tar.gz"
    place(path)
    with pytest.raises(InputError, match=f"^{path} {fault}.*: the archive itself must"):
        archives.is_there(path)


def test_an_archive_that_cannot_be_read_is_named(train, monkeypatch):
    def denied(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(InputError, match=rf"^{train} cannot be read \(Permission den"):
        archives.is_there(train)


def test_an_archive_that_is_damaged_or_cannot_be_read_to_its_end(train, monkeypatch):
    def failing(*_):
        raise OSError(errno.EIO, "Input/output error")

    digest = hashlib.sha256(train.read_bytes()).hexdigest()
    genuine = GENUINE._replace(size=train.stat().st_size)
    with pytest.raises(InputError) as caught:
        archives.check(SPEC, train, genuine)
    assert str(caught.value) == (
        f"{train} is not the archive of imagenet2012, or damaged: its SHA-256 is "
        f"{digest} instead of {genuine.sha256}; fetch it again"
    )
    archives.check(SPEC, train, genuine._replace(sha256=digest))
    monkeypatch.setattr(archives.hashlib, "file_digest", failing)
    with pytest.raises(InputError, match=rf"^{train} cannot be read \(Input/output"):
        archives.check(SPEC, train, genuine)


def test_a_whole_tar_of_another_size_is_an_excerpt(train, monkeypatch):
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: warnings.append(args))
    archives.check(SPEC, train, GENUINE)
    size = train.stat().st_size
    sizes = f"it has {size:,} bytes instead of 147,897,477,120"
    assert warnings == [(train, "imagenet2012", sizes)]


def cut(content, share):
    return content[: int(len(content) * share)]


def break_second_header(content):
    start = 512 + int(content[124:135], 8)
    start += -start % 512
    return content[:start] + b"x" * 8 + content[start + 8 :]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda content: cut(content, 0.5),
            "is no tar or a truncated one \\(unexpecte",
        ),
        # The members are whole, the end mark is not.
        (lambda content: content.rstrip(b"\0"), "is (no tar or|a tar that is damaged)"),
        (break_second_header, "is a tar that is damaged at byte [1-9]"),
        (lambda content: b"<html>" * 1000, "is no tar or a truncated one"),
        (lambda content: b"", r"is no tar or a truncated one \(empty file\)"),
    ],
)
def test_a_tar_that_is_not_whole(train, change, fault):
    content = change(train.read_bytes())
    train.write_bytes(content)
    with pytest.raises(InputError) as caught:
        archives.check(SPEC, train, GENUINE)
    assert caught.match(
        f"^{train} {fault}.*, not the one of imagenet2012: it has {len(content):,} "
        "bytes instead of 147,897,477,120; fetch it again$"
    )
