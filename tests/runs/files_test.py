"""Files that are whole or absent, and never links."""

import io
import os

import pytest

from optnet_jax.errors import InputError
from optnet_jax.runs import files


def test_a_file_is_replaced_whole_or_not_at_all_and_nothing_is_left(tmp_path):
    file = tmp_path / "result.json"
    with pytest.raises(FileNotFoundError):
        files.read_regular(file)
    files.write_durably(file, b"older")
    files.write_durably(file, lambda stream: stream.write(b"old"))
    assert files.read_regular(file) == b"old"

    def fail(stream):
        stream.write(b"ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.write_durably(file, fail)
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_link_is_replaced_and_its_target_stays(tmp_path):
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    link = tmp_path / "result.json"
    link.symlink_to(target)
    files.write_durably(link, b"new")
    assert target.read_bytes() == b"precious"
    assert link.read_bytes() == b"new"
    assert not link.is_symlink()


def open_to_append(path):
    return files.open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@pytest.mark.parametrize(
    "use", [files.read_regular, files.open_lock, open_to_append, files.check_kind]
)
@pytest.mark.parametrize("kind", ["folder", "fifo", "link"])
def test_only_a_regular_file_is_used_and_no_link_followed(tmp_path, kind, use):
    target, path = tmp_path / "precious", tmp_path / "a.json"
    target.write_bytes(b"precious")
    make = {
        "folder": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(target),
    }
    make[kind]()
    with pytest.raises(InputError, match=r"a\.json is not a regular file"):
        use(path)
    assert target.read_bytes() == b"precious"


def test_a_lock_is_taken_once_and_names_its_owner(tmp_path):
    path = tmp_path / ".lock"
    path.write_bytes(b"what an owner of long ago has left there, longer than a name")
    with files.open_lock(path) as mine, files.open_lock(path) as other:
        assert not files.take_lock(mine)
        owner = f"process {os.getpid()} on {os.uname().nodename}"
        assert [files.take_lock(other) for _ in range(2)] == [owner] * 2
        mine.close()
        assert not files.take_lock(other)


def test_the_owner_of_a_lock_is_synced_for_other_hosts(tmp_path, monkeypatch):
    synced = []
    path = tmp_path / ".lock"
    monkeypatch.setattr(files.os, "fsync", lambda _: synced.append(path.read_bytes()))
    with files.open_lock(path) as lock:
        files.take_lock(lock)
    assert synced == [f"process {os.getpid()} on {os.uname().nodename}".encode()]


def test_a_full_disk_keeps_nobody_from_a_lock(tmp_path):
    with files.open_lock(tmp_path / ".lock") as lock:

        class Full(io.FileIO):
            def write(self, data):
                raise OSError(28, "No space left on device")

        assert not files.take_lock(Full(lock.fileno(), "r+", closefd=False))


def test_a_tree_is_synced_file_by_file(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "leaf").write_bytes(b"1")
    synced = []
    fsync = os.fsync

    def record(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    files.sync_tree(tmp_path / "a")
    names = [os.path.relpath(name, tmp_path) for name in synced]
    assert names == ["a", "a/b/leaf", "a/b", "."]


def test_a_folder_is_made_with_its_parents_and_their_entries(tmp_path, monkeypatch):
    synced = []
    sync_folder = files.sync_folder
    monkeypatch.setattr(
        files, "sync_folder", lambda f: (synced.append(f), sync_folder(f))
    )
    assert files.make_folder(tmp_path / "a" / "b") == [tmp_path / "a/b", tmp_path / "a"]
    assert (tmp_path / "a" / "b").is_dir()
    assert set(synced) == {tmp_path, tmp_path / "a"}
    files.make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2


def test_what_may_not_be_looked_at_is_not_missing(tmp_path, as_nobody):
    (tmp_path / "file").touch()
    paths = tmp_path, tmp_path / "file", tmp_path / "none", tmp_path / "file" / "none"
    assert [files.exists(path) for path in paths] == [True, True, False, False]
    assert [files.is_folder(path) for path in paths] == [True, False, False, False]

    (tmp_path / "locked").mkdir(mode=0)
    for look in (files.exists, files.is_folder, files.check_kind):
        denied = r"cannot be read \(Permission denied\): give read permission"
        with as_nobody(), pytest.raises(InputError, match=denied):
            look(tmp_path / "locked" / "none")
