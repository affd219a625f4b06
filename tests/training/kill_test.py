"""Real processes, killed: the rest of the run is what it would have been."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "small_run.py"
# Long enough that a kill falls into it, with a checkpoint every two steps.
CONFIG = ("schedule.epochs=6.0", "checkpoint.every_epochs=0.5", "eval.every_epochs=2.0")
ENVIRONMENTS = {}
STARTED = []


@pytest.fixture(autouse=True, scope="module")
def environment(xla_flags):
    """Set what a program is started in, by its number of devices."""
    shared = {**os.environ, "PYTHONWARNINGS": "default"}
    for devices in (1, 4):
        ENVIRONMENTS[devices] = {**shared, "XLA_FLAGS": xla_flags(devices)}


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """End what a test that failed would leave running beside the next one."""
    yield
    for process in STARTED:
        process.kill()
        process.wait()
        process.stdout.close()
    STARTED.clear()


def start(workdir, *arguments, devices=1):
    process = subprocess.Popen(
        [sys.executable, SCRIPT, workdir, *CONFIG, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENTS[devices],
    )
    STARTED.append(process)
    return process


def finish(workdir, *arguments, devices=1):
    process = start(workdir, *arguments, devices=devices)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return json.loads((workdir / "result.json").read_text("utf-8")), output


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its directory and its result."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, finish(workdir)[0]


def newest_step(workdir):
    folder = workdir / "checkpoints"
    steps = [int(e.name) for e in folder.glob("*") if e.name.isdigit()]
    return max(steps, default=0)


def wait_for(condition, process):
    """Poll until the condition holds; says whether the process still lives."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


def metrics_of(workdir):
    return (workdir / "metrics.jsonl").read_text("utf-8")


def assert_same_run(result, workdir, whole):
    reference_workdir, reference = whole
    assert result["checksum"] == reference["checksum"]
    assert result["final"] == reference["final"]
    assert result["best"] == reference["best"]
    assert metrics_of(workdir) == metrics_of(reference_workdir)


def test_killed_and_terminated_runs_end_like_an_uninterrupted_one(tmp_path, whole):
    workdir = tmp_path / "killed"

    # While a checkpoint is being written, at a step that differs from run to run.
    process = start(workdir)
    writing = (workdir / "checkpoints").glob
    wait_for(lambda: newest_step(workdir) > 4 and any(writing("*tmp*")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed_at = newest_step(workdir)

    process = start(workdir)
    wait_for(lambda: newest_step(workdir) > killed_at + 2, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode in (0, 128 + signal.SIGTERM), output
    if process.returncode:
        assert "stopped by SIGTERM" in output

    result, output = finish(workdir)
    assert "resuming from the checkpoint" in output or "is finished" in output
    assert_same_run(result, workdir, whole)


def kill_at_random(process, workdir, moments):
    """Kill within the next steps, or now and then before the first of them.

    Returns:
        Whether the process lived until then.
    """
    if moments.random() < 0.2:
        pause = moments.uniform(0.0, 5.0)
    else:
        target = newest_step(workdir) + moments.randint(1, 6)
        wait_for(lambda: newest_step(workdir) >= target, process)
        pause = moments.uniform(0.0, 0.2)
    try:
        process.wait(pause)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.long
def test_fifty_kills_at_random_moments(tmp_path, whole):
    moments = random.Random(0)
    runs, kills = 0, 0
    while kills < 50:
        workdir = tmp_path / str(runs)
        while kill_at_random(start(workdir), workdir, moments):
            kills += 1
            print(f"run {runs}, kill {kills}: newest checkpoint {newest_step(workdir)}")
        result, _ = finish(workdir)
        print(f"run {runs} after {kills} kills: checksum {result['checksum']}")
        assert_same_run(result, workdir, whole)
        runs += 1


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def start_two(workdir, *arguments, heartbeat=100):
    address = f"--coordinator_address=127.0.0.1:{free_port()}"
    return [
        start(
            workdir,
            *arguments,
            address,
            "--num_processes=2",
            f"--process_id={index}",
            f"--heartbeat_timeout={heartbeat}",
        )
        for index in range(2)
    ]


def test_two_processes_stop_together_and_another_layout_goes_on(tmp_path, whole):
    """Two processes of one device, in mid-run one of four: the same run to rounding."""
    workdir = tmp_path / "two"
    processes = start_two(workdir)
    assert wait_for(lambda: newest_step(workdir) >= 4, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    codes = [process.returncode for process in processes]
    assert codes == [128 + signal.SIGTERM] * 2, outputs
    assert "stopped by SIGTERM" in outputs[0]
    # Only process 0 speaks and writes.
    assert "stopped" not in outputs[1]
    stopped_at = newest_step(workdir)
    assert 4 <= stopped_at < 24

    result, output = finish(workdir, devices=4)
    assert f"resuming from the checkpoint of step {stopped_at}" in output
    assert result["device"] == "4 x cpu (1 process(es))"
    # Sums over several devices are rounded otherwise than on one.
    loss = whole[1]["final"]["loss"]
    assert result["final"]["loss"] == pytest.approx(loss, rel=1e-3)


@pytest.mark.long
def test_one_process_stops_and_two_go_on(tmp_path, whole):
    workdir = tmp_path / "two"
    process = start(workdir)
    wait_for(lambda: newest_step(workdir) >= 4, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    stopped_at = newest_step(workdir)
    processes = start_two(workdir)
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert f"resuming from the checkpoint of step {stopped_at}" in outputs[0]
    result = json.loads((workdir / "result.json").read_text("utf-8"))
    assert "2 process" in result["device"]
    loss = whole[1]["final"]["loss"]
    assert result["final"]["loss"] == pytest.approx(loss, rel=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("lost", [0, 1])
def test_when_a_peer_is_lost_the_other_ends_too(tmp_path, lost):
    """Process 0 is the coordinator, its loss another path through JAX."""
    processes = start_two(tmp_path, "schedule.epochs=100000.0", heartbeat=10)
    assert wait_for(lambda: newest_step(tmp_path) >= 4, processes[0])
    processes[lost].kill()
    # Far beyond the heartbeat: a hang fails, a slow machine does not.
    output, _ = processes[1 - lost].communicate(timeout=200)
    assert processes[1 - lost].returncode not in (0, None), output
    processes[lost].communicate()
