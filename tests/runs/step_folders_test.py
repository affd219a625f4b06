import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from optnet_jax.errors import InputError
from optnet_jax.runs import step_folders


def make(directory, *names):
    for name in names:
        (directory / name / "state").mkdir(parents=True)
        (directory / name / "state" / "file").write_text(name, "utf-8")


def test_only_whole_steps_are_listed(tmp_path):
    make(tmp_path, "2", "10", "4.tmp", "6.orbax-checkpoint-tmp", "5.deleted.tmp", "²")
    assert step_folders.steps(tmp_path) == [2, 10]
    assert step_folders.steps(tmp_path / "missing") == []


def test_a_folder_that_may_not_be_listed_is_named(as_nobody):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o311)
        denied = rf"^{folder} cannot be read \(Permission denied\): give read permiss"
        with as_nobody(), pytest.raises(InputError, match=denied):
            step_folders.steps(Path(folder))
        os.chmod(folder, 0o755)


def test_a_start_removes_what_a_kill_left_and_nothing_else(tmp_path):
    make(tmp_path, "2", "4.tmp", "6.orbax-checkpoint-tmp", "5.deleted.tmp", "tmp")
    step_folders.prepare(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["2", "tmp"]


def test_commit_delete_and_set_aside(tmp_path):
    directory = tmp_path / "checkpoints"
    make(directory, "1", "2.tmp", "3")
    step_folders.commit(directory, 2)
    assert (directory / "2" / "state" / "file").read_text("utf-8") == "2.tmp"
    step_folders.delete(directory, 1)
    step_folders.set_aside(directory, 3)
    make(directory, "3")
    step_folders.set_aside(directory, 3)
    assert [entry.name for entry in directory.iterdir()] == ["2"]
    aside = tmp_path / "damaged_checkpoints"
    assert sorted(entry.name for entry in aside.iterdir()) == ["3", "3.1"]
    assert step_folders.newest(directory) == "the checkpoint of step 2 is intact"
    assert step_folders.newest(aside / "3") == "there is no earlier checkpoint"


def test_what_cannot_be_deleted_now_is_said_and_no_step(tmp_path, monkeypatch, caplog):
    make(tmp_path, "1", "2")
    with monkeypatch.context() as context:
        busy = OSError(errno.EBUSY, "Device or resource busy")
        context.setattr(shutil, "rmtree", lambda path: raise_(busy))
        step_folders.delete(tmp_path, 1)
    assert "1.deleted.tmp could not be deleted (Device or resource busy)" in caplog.text
    assert step_folders.steps(tmp_path) == [2]
    step_folders.prepare(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["2"]


def raise_(error):
    raise error


def test_room_is_given_back(tmp_path):
    step_folders.check_room(tmp_path, 4, 10_000, 5)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="too large|No space"):
        step_folders.check_room(tmp_path, 4, 2**62, 5)
    assert list(tmp_path.iterdir()) == []


def test_a_system_that_takes_no_room_beforehand_goes_on(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")  # as on macOS
    step_folders.check_room(tmp_path, 4, 2**62, 5)
    assert list(tmp_path.iterdir()) == []


def test_a_link_or_file_under_a_temporary_name_is_removed_and_not_followed(tmp_path):
    directory = tmp_path / "checkpoints"
    make(directory, "2")
    make(tmp_path, "outside")
    (directory / "4.tmp").symlink_to(tmp_path / "outside")
    (directory / "6.tmp").symlink_to(tmp_path / "nothing")
    (directory / "8.tmp").write_bytes(b"")
    os.mkfifo(directory / "9.tmp")
    (directory / "3").symlink_to(tmp_path / "outside")
    step_folders.prepare(directory)
    step_folders.delete(directory, 3)
    assert [entry.name for entry in directory.iterdir()] == ["2"]
    assert (tmp_path / "outside" / "state" / "file").read_text("utf-8") == "outside"


@pytest.mark.parametrize("kind", ["link", "fifo"])
@pytest.mark.parametrize("name", ["2", "2/state", "2/state/file"])
def test_a_step_with_a_link_or_fifo_in_it_is_refused(tmp_path, name, kind):
    directory = tmp_path / "checkpoints"
    make(directory, "2")
    step_folders.check_kinds(directory, 2)
    path = directory / name
    path.rename(tmp_path / "moved")
    if kind == "link":
        path.symlink_to(tmp_path / "moved")
    else:
        os.mkfifo(path)
    with pytest.raises(InputError, match=rf"{name} is not a (regular file|folder): "):
        step_folders.check_kinds(directory, 2)
