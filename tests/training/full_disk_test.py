"""A disk that fills up, whenever it does: one line, and the last checkpoint is kept."""

import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from optnet_jax import main
from optnet_jax.errors import InputError

POINTS = 16


def mount(folder: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a file system of its own: Linux, root")


@contextlib.contextmanager
def disk(folder: Path, options: str):
    """A file system in memory, of some size and number of inodes."""
    folder.mkdir(exist_ok=True)
    mount(folder, options)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def run(config, workdir):
    """Train and draw; returns the checksum."""
    main.run(config, str(workdir), "train")
    return json.loads((workdir / "result.json").read_text())["checksum"]


@pytest.mark.long
@pytest.mark.parametrize("option", ["size", "nr_inodes"])
def test_a_disk_that_fills_up_loses_nothing(small, tmp_path, capfd, option):
    config = small.small_config(**{"checkpoint.every_epochs": 0.5})
    with disk(tmp_path / "disk", "size=64m") as folder:
        whole = run(config, folder / "run")
        room = os.statvfs(folder)
    used = {
        "size": (room.f_blocks - room.f_bfree) * room.f_frsize,
        "nr_inodes": room.f_files - room.f_ffree,
    }[option]
    refused = 0
    for point in range(1, POINTS + 1):
        # While it runs, it takes more than what it leaves, but not twice as much.
        limit = 2 * used * point // POINTS
        with disk(tmp_path / "disk", f"{option}={limit}") as folder:
            capfd.readouterr()
            said = "finished"
            try:
                run(config, folder / "run")
            except InputError as error:
                refused += 1
                said = str(error)
            assert "\n" not in said
            assert "Traceback" not in capfd.readouterr().err
            mount(folder, "remount,size=64m,nr_inodes=10000")
            assert run(config, folder / "run") == whole
            assert not (folder / "run" / "damaged_checkpoints").exists()
        with capfd.disabled():
            print(f"{option}={limit}: {said}")
    assert 0 < refused < POINTS
