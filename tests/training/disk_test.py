"""A disk that loses power or fills up: what was called saved is on it, and stays.

What loses power is a file system in an image. A copy of the image, taken while the run
stands still, is what a power cut leaves: what the kernel had not written yet is not in
it. Without syncing, files are empty there.
"""

import contextlib
import filecmp
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from optnet_jax import main
from optnet_jax.errors import InputError
from optnet_jax.runs import step_folders
from optnet_jax.training import loop

# Says what is saved, as soon as the run may say it.
CHILD = """
import runpy, sys
from optnet_jax.training.checkpoint import Checkpoints
wait = Checkpoints.wait
def said(checkpoints):
    wait(checkpoints)
    if checkpoints.last_saved is not None:
        print("saved", checkpoints.last_saved, flush=True)
Checkpoints.wait = said
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
FIELDS = {
    "schedule.epochs": 10.0,
    "checkpoint.every_epochs": 0.25,
    "eval.every_epochs": 1.0,
}
CUTS = 50
IMAGE = ("-o", "loop,commit=300,noauto_da_alloc")
POINTS = 16


@contextlib.contextmanager
def mounted(folder: Path, *what: str):
    """A file system that is mounted; skips where that is not allowed."""
    folder.mkdir(exist_ok=True)
    command = ["mount", *what, str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a file system of its own: Linux, ext4, root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def new_image(file: Path) -> str:
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("needs to mount an image: Linux, ext4, root")
    with open(file, "wb") as stream:
        stream.truncate(48 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", str(file)], check=True)
    return str(file)


def start(workdir):
    fields = [f"{name}={value}" for name, value in FIELDS.items()]
    script = str(Path(__file__).parents[1] / "small_run.py")
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, script, str(workdir), *fields],
        stdout=subprocess.PIPE,
        text=True,
    )


def copy_image(image, copy):
    """A copy of one moment: what the kernel is still writing is waited for."""
    while True:
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        if filecmp.cmp(image, copy, shallow=False):
            return


def run_and_copy(image, folder, copies, moments):
    """Run to the end; returns the copies, each with the last step said to be saved."""
    taken, said = [], None
    with mounted(folder, *IMAGE, image), start(folder / "run") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("saved"):
                said = int(line.split()[1])
            if said is not None and moments.random() < 0.5:
                continue
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.0, 0.02))
            process.send_signal(signal.SIGSTOP)
            copy = copies / f"{len(taken)}.img"
            copy_image(image, copy)
            process.send_signal(signal.SIGCONT)
            taken.append((copy, said))
    assert process.returncode == 0
    return taken


@pytest.mark.long
def test_what_is_called_saved_survives_a_power_cut(small, tmp_path):
    moments = random.Random(0)
    whole = loop.train(small.small_config(**FIELDS), tmp_path / "whole")["checksum"]
    cuts, ahead, afresh = 0, 0, 0
    while cuts < CUTS:
        copies = tmp_path / f"copies{cuts}"
        copies.mkdir()
        image = new_image(tmp_path / "disk.img")
        for copy, said in run_and_copy(image, tmp_path / "disk", copies, moments):
            with mounted(tmp_path / "after", *IMAGE, str(copy)) as after:
                workdir = after / "run"
                found = step_folders.steps(workdir / "checkpoints")
                assert said is None or found[-1] >= said
                ahead += bool(found) and found[-1] > (said or 0)
                afresh += not found
                result = loop.train(small.small_config(**FIELDS), workdir)
                assert result["checksum"] == whole
                assert not (workdir / "damaged_checkpoints").exists()
            copy.unlink()
            cuts += 1
    assert afresh
    print(f"{cuts} cuts, {afresh} before the first checkpoint")
    print(f"in {ahead} a step newer than the last one said was there")


def memory(folder: Path, options: str):
    """A file system in memory, of some size and number of inodes."""
    return mounted(folder, "-t", "tmpfs", "-o", options, "tmpfs")


def run(config, workdir):
    """Train and draw; returns the checksum."""
    main.run(config, str(workdir), "train")
    return json.loads((workdir / "result.json").read_text())["checksum"]


@pytest.mark.long
@pytest.mark.parametrize("option", ["size", "nr_inodes"])
def test_a_disk_that_fills_up_loses_nothing(small, tmp_path, capfd, option):
    """Whenever it does: one line, and the last checkpoint is kept."""
    config = small.small_config(**{"checkpoint.every_epochs": 0.5})
    with memory(tmp_path / "disk", "size=64m") as folder:
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
        with memory(tmp_path / "disk", f"{option}={limit}") as folder:
            capfd.readouterr()
            said = "finished"
            try:
                run(config, folder / "run")
            except InputError as error:
                refused += 1
                said = str(error)
            assert "\n" not in said
            assert "Traceback" not in capfd.readouterr().err
            larger = ["mount", "-o", "remount,size=64m,nr_inodes=10000", str(folder)]
            subprocess.run(larger, check=True)
            assert run(config, folder / "run") == whole
            assert not (folder / "run" / "damaged_checkpoints").exists()
        with capfd.disabled():
            print(f"{option}={limit}: {said}")
    assert 0 < refused < POINTS
