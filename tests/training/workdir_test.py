import errno
import fcntl
import json
import os
import subprocess
import sys

import ml_collections
import pytest

from optnet_jax.errors import InputError
from optnet_jax.runs import files
from optnet_jax.training.workdir import (
    FILES,
    FOLDERS,
    FULL,
    WRITE_ERRORS,
    Workdir,
    named_write_errors,
    read_json,
)


def make_config(**changes):
    return ml_collections.ConfigDict(
        {
            "experiment": "train",
            "seed": 0,
            "drop_at": (0.5, 0.75),
            "log": {"every_steps": 0},
            **changes,
        }
    )


def finish(path, config):
    with Workdir(path, config) as workdir:
        workdir.write_config()
        workdir.write_result({"final": 1})


def test_a_second_owner_is_refused_and_told_who_has_it(tmp_path):
    code = (
        "import sys, ml_collections; from optnet_jax.training.workdir import Workdir\n"
        f"with Workdir({str(tmp_path)!r}, ml_collections.ConfigDict()):\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout.readline() == "locked\n"
        refused(tmp_path, rf"is in use by process {owner.pid} on .*another --workdir")
    finally:
        owner.kill()
        owner.communicate()
    # A killed owner leaves no lock behind.
    with Workdir(tmp_path, make_config()):
        pass


def refused(path, match, **changes):
    """Claim a workdir, which must fail with such a line."""
    with pytest.raises(InputError, match=match):
        Workdir(path, make_config(**changes)).__enter__()


def test_a_directory_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    match = r"workdir .*file/run is not writable \(Not a directory\)"
    refused(tmp_path / "file" / "run", match)

    def denied(path, content):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "write_durably", denied)
    refused(tmp_path, r"not writable \(Permission denied\)")


def test_the_config_is_found_again_and_a_result_replaced_whole_or_not(tmp_path):
    finish(tmp_path, make_config())
    with (
        Workdir(tmp_path, make_config()) as workdir,
        pytest.raises(ValueError, match="not JSON compliant"),
    ):
        workdir.write_result({"final": float("nan")})
    assert read_json(tmp_path / "result.json") == {"final": 1}
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "experiment": "train",
        "seed": 0,
        "drop_at": [0.5, 0.75],
        "log": {"every_steps": 0},
    }


def test_another_config_is_refused_unless_only_free_fields_differ(tmp_path):
    finish(tmp_path, make_config())
    often = {"every_epochs": 0.5, "keep": 9, "keep_best": False}
    with Workdir(tmp_path, make_config(log={"every_steps": 5}, checkpoint=often)):
        pass
    match = r"drop_at was \[0.5, 0.75\], now \[0.5\]; seed was 0, now 3"
    refused(tmp_path, match, seed=3, drop_at=(0.5,))


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.ENOENT])
def test_what_is_not_of_the_workdir_is_no_failed_write_of_it(tmp_path, number):
    def ending(*names):
        with named_write_errors(tmp_path / "run", lambda: "kept"):
            raise OSError(number, os.strerror(number), *names)

    for inside in ("run", "run/metrics.jsonl"):
        with pytest.raises(InputError, match="run could not be written"):
            ending(str(tmp_path / inside))
    for outside in ("runs", "other/metrics.jsonl"):
        with pytest.raises(InputError if number in FULL else OSError, match=outside):
            ending(str(tmp_path / outside))
    unnamed = InputError if number in WRITE_ERRORS else OSError
    with pytest.raises(unnamed):
        ending()


def test_a_directory_without_results_takes_any_config(tmp_path):
    with Workdir(tmp_path, make_config()) as workdir:
        workdir.write_config()
    with Workdir(tmp_path, make_config(seed=1)) as workdir:
        workdir.write_config()
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1


@pytest.mark.parametrize("left", ["runs/digits_agd-seed=0", "squares.json", ""])
def test_another_experiment_is_refused_whatever_it_left(tmp_path, left):
    """A table's runs and a study's report have names that no other run knows."""
    with Workdir(tmp_path, make_config(experiment="tables")) as workdir:
        workdir.write_config()
    if left:
        files.make_folder(tmp_path / left)
    match = r"another config \(experiment was tables, now train\): use that config or"
    refused(tmp_path, match, seed=1)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["experiment"] == "tables"
    # What grows in its own directory is asked by the study itself.
    with Workdir(tmp_path, make_config(experiment="tables", seed=1)):
        pass


# Every way in which a small file of a run is found damaged.
DAMAGE = {
    "empty": b"",
    "NUL": b"\0" * 300,
    "cut": b'{"seed": 0, "na',
    "text": b"to be or not\n" * 9,
    "a list": b"[1, 2]",
    "not UTF-8": b"\xff\xfe{}",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_json_file_counts_as_missing_and_is_named(tmp_path, damage, caplog):
    file = tmp_path / "result.json"
    file.write_bytes(damage)
    assert read_json(file) is None
    assert f"{file} is damaged" in caplog.text


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
@pytest.mark.parametrize("kind", ["link", "fifo", "other"])
def test_a_file_of_another_kind_is_refused_and_no_link_followed(tmp_path, name, kind):
    run, target = tmp_path / "run", tmp_path / "precious"
    run.mkdir()
    target.write_bytes(b"precious")
    if kind == "link":
        (run / name).symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(run / name)
    elif name in FOLDERS:
        (run / name).write_bytes(b"")
    else:
        (run / name).mkdir()
    refused(run, rf"{name} is not a (regular file|folder)")
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["metrics.jsonl", "events.out.tfevents.1.host"])
def test_files_of_another_program_are_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("theirs")
    refused(tmp_path, f"holds {name} but no config.json of a run: another program's f")
    (tmp_path / "config.json").write_text('{"of": "another program"}')
    refused(tmp_path, "holds config.json, ")
    assert (tmp_path / name).read_text() == "theirs"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_and_used(
    tmp_path, monkeypatch, caplog, number
):
    def no_locks(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with Workdir(tmp_path, make_config()) as workdir:
        workdir.write_config()
    assert "has no locks" in caplog.text


def test_a_lock_that_holds_anything_names_no_owner(tmp_path, monkeypatch):
    (tmp_path / ".lock").write_bytes(b"\0\x1b[31m<script>" * 30)

    def taken(file, operation):
        raise BlockingIOError(errno.EWOULDBLOCK, "taken")

    monkeypatch.setattr(fcntl, "flock", taken)
    refused(tmp_path, "is in use by another process: wait")


@pytest.mark.parametrize("file", ["", "metrics.jsonl", "checkpoints/4/state"])
def test_only_a_new_workdir_without_anything_in_it_goes_again(tmp_path, file):
    path = tmp_path / "a" / "b"
    with Workdir(path, make_config()):
        (path / "checkpoints").mkdir()
        if file:
            (path / file).parent.mkdir(exist_ok=True)
            (path / file).touch()
    assert path.exists() == bool(file)
    assert (tmp_path / "a").exists() == bool(file)
    if file:
        assert (path / file).exists()
        assert (path / ".lock").exists()
