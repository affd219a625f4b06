import os
import signal
import subprocess

import pytest

# Ends with the statuses that it is told, one after the other, and counts its starts.
COUNTED = 'echo start >>{log}; exit "$(sed -n "$(wc -l <{log})p" {statuses})"'


@pytest.fixture
def keep_running(tmp_path, launch):
    def call(*statuses, restarts=5):
        log, file = tmp_path / "log", tmp_path / "statuses"
        file.write_text("\n".join(map(str, statuses)) + "\n", "utf-8")
        command = COUNTED.format(log=log, statuses=file)
        flags = f"--restarts={restarts}", "--pause=0", "--", "bash", "-c", command
        done = launch.call("keep_running.sh", *flags)
        return done.returncode, len(log.read_text("utf-8").splitlines())

    return call


@pytest.mark.parametrize(
    ("statuses", "restarts", "ended"),
    [((134, 1, 137, 0), 5, (0, 4)), ((1, 2, 0), 5, (2, 2)), ((1, 1, 7, 0), 2, (7, 3))],
    ids=["until it has finished", "a mistake is not repeated", "not for ever"],
)
def test_starts_again(keep_running, statuses, restarts, ended):
    assert keep_running(*statuses, restarts=restarts) == ended


def test_dry_run_prints_the_command(launch):
    done = launch.call("keep_running.sh", "--dry-run", "--", "python", "-m", "a b")
    assert done.stdout.strip() == r"python -m a\ b"


def test_sigterm_is_handed_on_and_waited_for(launch, tmp_path):
    command = (
        f"trap 'echo saved >{tmp_path}/saved; exit 143' TERM; echo ready; "
        "while true; do sleep 0.05; done"
    )
    program = [launch.folder / "keep_running.sh", "--", "bash", "-c", command]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
    assert (tmp_path / "saved").exists()


def test_sigterm_while_the_command_starts_is_handed_on_too(launch):
    command = "trap 'exit 143' TERM; kill -TERM $PPID; while true; do sleep 0.05; done"
    for _ in range(10):
        with subprocess.Popen(
            [launch.folder / "keep_running.sh", "--", "bash", "-c", command]
        ) as process:
            assert process.wait(timeout=60) == 143


def test_the_lock_names_the_process_and_keeps_a_second_one_out(launch, tmp_path):
    lock = tmp_path / "run.lock"
    arguments = [f"--lock={lock}", "--", "bash", "-c", "echo ready; exec sleep 600"]
    with subprocess.Popen(
        [launch.folder / "keep_running.sh", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert int(lock.read_text("utf-8")) == process.pid
        second = launch.call(
            "keep_running.sh", f"--lock={lock}", "--", "touch", str(tmp_path / "second")
        )
        assert second.returncode == 3
        assert f"already running as {process.pid}" in second.stderr
        os.kill(int(lock.read_text("utf-8")), signal.SIGTERM)
        assert process.wait() == 143
    assert not (tmp_path / "second").exists()
    third = launch.call("keep_running.sh", f"--lock={lock}", "--", "true")
    assert third.returncode == 0
    # Another process may have got the id of one that has ended.
    assert lock.read_text("utf-8") == ""
