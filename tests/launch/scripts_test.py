"""What holds for every launcher."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "launch").glob("*.sh"))


def test_there_is_one_for_each_kind_of_place():
    names = {script.stem for script in SCRIPTS}
    assert names >= {"local", "slurm", "tpu_pod"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_is_short_enough_to_be_read_and_shellcheck_finds_nothing(script):
    lines = script.read_text("utf-8").splitlines()
    assert len(lines) <= 64
    assert max(map(len, lines)) <= 100
    program = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    program = program or shutil.which("shellcheck")
    assert program, "shellcheck is missing: pip install -e '.[test]'"
    done = subprocess.run(
        [program, str(script)], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_and_dry_run(script, launch):
    assert os.access(script, os.X_OK)
    done = launch.call(script.name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: launch/{script.name} ")
    assert "--dry-run" in done.stdout


@pytest.mark.parametrize("script", ["local.sh", "keep_running.sh"])
def test_a_mistyped_option_is_refused(script, launch):
    done = launch.call(script, "--restart=3", "--", "--config=x")
    assert done.returncode == 2
    assert "unknown option --restart=3" in done.stderr


@pytest.mark.parametrize(
    ("script", "option"),
    [
        *[("local.sh", name) for name in ("processes", "restarts")],
        *[("keep_running.sh", name) for name in ("restarts", "pause")],
        *[("slurm.sh", name) for name in ("nodes", "gpus", "restarts")],
    ],
)
def test_a_number_is_a_number_and_no_command(script, option, launch, tmp_path):
    """Bash's arithmetic would run what stands in brackets."""
    marker = tmp_path / "run"
    values = [f"restarts[$(touch {marker})]", "", "-1", "1.5", "x", "²", "1 1"]
    if option in ("processes", "nodes", "gpus"):
        values.append("0")
    for value in values:
        for more in ([], ["--dry-run"]):
            done = launch.call(script, f"--{option}={value}", *more, "--", "true")
            assert done.returncode == 2, value
            assert f"--{option}={value}" in done.stderr
            assert done.stdout == ""
    assert not marker.exists()


def test_a_number_from_the_environment_is_no_command_either(launch, tmp_path):
    marker = tmp_path / "run"
    count = f"x[$(touch {marker})]"
    done = launch.call("slurm.sh", "--in-job", "--", "x", SLURM_RESTART_COUNT=count)
    assert done.returncode == 2
    assert not marker.exists()


def test_nothing_to_keep_running_is_refused(launch):
    done = launch.call("keep_running.sh", "--")
    assert done.returncode == 2
    assert "there is no COMMAND" in done.stderr
