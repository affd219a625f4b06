import concurrent.futures
import dataclasses
import itertools
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from optnet_jax.configuration import TrainConfig
from optnet_jax.errors import InputError
from optnet_jax.runs import distributed
from optnet_jax.runs.distributed import Group
from optnet_jax.training import agreement, experiment


@pytest.fixture
def compare(store, monkeypatch):
    """Compares what some processes were told; returns each one's error or None."""

    def call(*told):
        # Every process counts its rounds for itself.
        monkeypatch.setattr(agreement, "_rounds", itertools.repeat(0))

        def one(index):
            try:
                agreement.compare(told[index], Group(store, index, len(told)))
            except InputError as error:
                return str(error)

        with concurrent.futures.ThreadPoolExecutor(len(told)) as pool:
            return list(pool.map(one, range(len(told))))

    return call


@pytest.fixture
def told(monkeypatch):
    """What would be compared between two processes, in order."""
    told = []
    monkeypatch.setattr(distributed, "group", lambda: "two")
    monkeypatch.setattr(agreement, "compare", told.append)
    return told


def test_the_same_goes_on(compare):
    assert compare(*[{"seed": 1, "widths": (8, 16), "name": None}] * 3) == [None] * 3


def test_what_differs_is_named_on_every_process(compare):
    first = {"rate": 0.1, "batch": 64, "workdir": "/a", "seed": 0}
    errors = compare(
        first, {**first, "rate": 0.01}, first, {"batch": 32, "workdir": "/a", "seed": 0}
    )
    assert set(errors) == {
        "the processes were not told the same: on process 1 rate is 0.01, not 0.1 as "
        "on process 0; on process 3 batch is 32, not 64, rate is not set, not 0.1 as "
        "on process 0: start all with the same flags, versions and data, in a workdir "
        "that all hosts see"
    }


def test_a_thousand_differences_are_still_one_line(compare):
    (error, *_) = compare({"x": 0}, *[{"x": 1}] * 9)
    assert "on process 3" in error
    assert "on process 4" not in error
    assert "and 6 more processes" in error


def test_the_number_of_processes_is_compared(store, monkeypatch):
    monkeypatch.setattr(agreement, "_rounds", itertools.repeat(0))
    store.values["optnet_jax/told/0/1"] = '{"num_processes": 3}'
    with pytest.raises(InputError, match="num_processes is 3, not 2"):
        agreement.compare({}, Group(store, 0, 2))


def test_a_wait_is_announced(store, monkeypatch, capsys):
    monkeypatch.setattr(agreement, "_rounds", itertools.repeat(0))
    monkeypatch.setattr(distributed, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(
        agreement.time,
        "sleep",
        lambda seconds: store.values.setdefault("optnet_jax/told/0/verdict", "[]"),
    )
    agreement.compare({}, Group(store, 1, 2))
    assert capsys.readouterr().out.startswith("process 1 waits for process 0")


def test_all_that_decides_the_run_is_compared(told, small, tmp_path):
    def differences(mode="train", workdir=tmp_path, **changes):
        told.clear()
        agreement.check_told("train", small.small_config(), tmp_path)
        agreement.check_told(mode, small.small_config(**changes), workdir)
        before, after = told
        return {name for name in before | after if before[name] != after[name]}

    assert differences() == set()
    assert differences(mode="eval") == {"mode"}
    assert differences(workdir=tmp_path / "b") == {"workdir"}
    # A host may have the data elsewhere; what is in it is compared when it is read.
    assert differences(**{"data.data_dir": "/elsewhere"}) == set()
    for field, value in {
        "data.batch_size": 32,
        "optimizer.learning_rate": 0.01,
        "eval.checkpoint": "best",
        "checkpoint.keep": 7,
        "seed": 3,
    }.items():
        assert differences(**{field: value}) == {f"config.{field}"}
    assert {"version of jax", "version of optnet_jax", "jax_enable_x64"} <= set(told[0])
    assert told[0]["devices"] == "8 x cpu"


def test_other_code_is_noticed(told, small, tmp_path, monkeypatch):
    def code():
        told.clear()
        agreement.check_told("train", small.small_config(), tmp_path)
        return told[0]["code of optnet_jax"]

    before = code()
    assert before == code()
    (tmp_path / "optnet_jax").mkdir()
    (tmp_path / "optnet_jax" / "__init__.py").touch()
    file = str(tmp_path / "optnet_jax" / "__init__.py")
    monkeypatch.setattr(agreement.optnet_jax, "__file__", file)
    assert code() != before


@pytest.fixture
def look(store, told, tmp_path, monkeypatch):
    """Looks into a workdir as process 1, once process 0 has told what it sees."""
    group = Group(store, 1, 2)
    monkeypatch.setattr(distributed, "group", lambda: group)
    monkeypatch.setattr(agreement, "_rounds", itertools.repeat(0))

    def call(owner, finished=False, checkpoints=()):
        first = {f"owner of {tmp_path}": owner, "finished": finished}
        first["checkpoints"] = list(checkpoints)
        store.values["optnet_jax/workdir/0"] = json.dumps(first)
        agreement.check_workdir(tmp_path)
        return first, told.pop()

    return call


def test_a_workdir_that_only_one_host_sees_is_noticed(look, tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "SHOWN_SECONDS", 0.0)
    monkeypatch.setattr(agreement.time, "sleep", lambda seconds: None)
    first, seen = look("process 7 on a")
    assert seen == first | {f"owner of {tmp_path}": "nobody"}
    (tmp_path / ".lock").write_text("process 7 on a", "utf-8")
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)
    first, seen = look("process 7 on a", finished=True, checkpoints=(20, 40))
    assert seen == first | {"finished": False, "checkpoints": [20]}


def test_what_another_host_has_written_may_show_later(look, tmp_path, monkeypatch):
    late = [
        lambda: (tmp_path / ".lock").write_text("", "utf-8"),  # what NFS shows first
        lambda: (tmp_path / ".lock").write_text("process 7 on a", "utf-8"),
        lambda: (tmp_path / "checkpoints" / "40").mkdir(parents=True),
    ]
    monkeypatch.setattr(agreement.time, "sleep", lambda seconds: late.pop(0)())
    first, seen = look("process 7 on a", checkpoints=(40,))
    assert seen == first
    assert not late


def test_process_0_tells_what_it_sees(store, told, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "group", lambda: Group(store, 0, 2))
    (tmp_path / "result.json").write_text("{}", "utf-8")
    agreement.check_workdir(tmp_path)
    (first,) = map(json.loads, store.values.values())
    assert told == [first]
    assert first["finished"]


def test_other_data_is_noticed(told, small, monkeypatch):
    parts = experiment.build(TrainConfig.of(small.small_config()))
    agreement.check_found(parts)
    monkeypatch.setattr(parts.dataset, "fingerprint", "other", raising=False)
    agreement.check_found(parts)
    assert told[0]["data"] != told[1]["data"]
    parts.dataset.spec = dataclasses.replace(parts.dataset.spec, pad=7)
    agreement.check_found(parts)
    assert told[2] == told[1] | {"pad": 7}


def test_other_variables_are_noticed(told, tmp_path):
    for step, value in ((4, 0.0), (8, 0.0), (4, 1.0)):
        agreement.check_variables(tmp_path, {"params.w": np.full(2, value)}, step)
    assert f"step of {tmp_path}" in told[0]
    steps, sums = zip(*(seen.values() for seen in told), strict=True)
    assert steps == (4, 8, 4)
    assert sums[0] == sums[1] != sums[2]


def test_one_process_asks_nobody(small, tmp_path):
    agreement.check_told("train", small.small_config(), tmp_path)
    agreement.compare({"x": 1})


# Configs of one process alone, or of both: what they import, they change.
OTHER_DATA = """
from optnet_jax.data import digits
digits.SPLIT_SEED = 1
"""
IMPATIENT = """
from optnet_jax.training import agreement
agreement.SHOWN_SECONDS = 0.0
"""
UNREADABLE = """
from optnet_jax.training import checkpoint

def read(self, step):
    if step == 2:
        raise checkpoint.DamagedCheckpointError("step 2 is damaged", step)
    return whole(self, step)

whole, checkpoint.Checkpoints.read = checkpoint.Checkpoints.read, read
"""
DRIFTING = """
import functools
import optax

@functools.wraps(optax.sgd)
def drifting(learning_rate, momentum, nesterov):
    return drifting.__wrapped__(learning_rate, 0.5, nesterov)

optax.sgd = drifting
"""
DAMAGED = """
from optnet_jax.training import result

def read(workdir):
    raise result.DamagedResultError("result.json is damaged")

result.read = read
"""
# Another folder for each process, under one name.
ELSEWHERE = "/proc/self/cwd/run"


@pytest.fixture
def config_file(tmp_path):
    """Writes a config that is digits_resnet's after some code; returns its flag."""

    def write(code):
        file = tmp_path / "other.py"
        file.write_text(f"from optnet_jax.configs.digits_resnet import *\n{code}")
        return f"--config={file}"

    return write


@pytest.fixture
def mains(tmp_path, xla_flags):
    """Runs main in processes that train together; returns statuses and outputs."""

    def call(*every, differing=((), ()), platforms=("cpu", "cpu")):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
        started = []
        for index, own in enumerate(differing):
            folder = tmp_path / str(index)
            folder.mkdir(exist_ok=True)
            command = [
                *(sys.executable, "-m", "optnet_jax.main"),
                *("--config=configs/digits_resnet.py", "--config.schedule.steps=1"),
                *(f"--workdir={tmp_path / 'run'}", f"--coordinator_address={address}"),
                *(f"--process_id={index}", f"--num_processes={len(differing)}"),
                *(*every, *own),
            ]
            environment = os.environ | {
                "TFDS_DATA_DIR": f"{folder}/data",
                "XLA_FLAGS": xla_flags(1),
                "JAX_PLATFORMS": platforms[index],
            }
            both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            started.append(
                subprocess.Popen(
                    command, text=True, cwd=folder, env=environment, **both
                )
            )
        outputs = [process.communicate(timeout=300)[0] for process in started]
        return [process.returncode for process in started], outputs

    return call


def assert_refused(ended, *named):
    """All processes end alike, and each says in one line what differs."""
    statuses, outputs = ended
    assert statuses == [2, 2], outputs
    for output in outputs:
        (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
        assert "the processes were not told the same: on process 1 " in line
        assert all(name in line for name in named), line


@pytest.mark.long
def test_two_processes_that_were_told_otherwise_both_say_so(
    mains, config_file, tmp_path
):
    for flag, *named in (
        ("--config.optimizer.learning_rate=0.05", "learning_rate is 0.05, not"),
        ("--config.data.batch_size=32", "config.data.batch_size is 32, not"),
        (f"--workdir={tmp_path / 'other'}", "workdir is", "other, not"),
        ("--mode=eval", "mode is eval, not train"),
    ):
        assert_refused(mains(differing=((), (flag,))), *named)
    assert_refused(mains(differing=((), (config_file(OTHER_DATA),))), "data is ")
    place = f"--workdir={ELSEWHERE}", config_file(IMPATIENT)
    assert_refused(mains(*place), f"owner of {ELSEWHERE} is nobody, not process")
    assert not list(tmp_path.rglob("checkpoints"))


@pytest.mark.long
def test_what_one_process_cannot_read_none_goes_on_from(mains, config_file, tmp_path):
    run = tmp_path / "run"
    flags = "--config.schedule.steps=2", "--config.checkpoint.every_epochs=0.01"
    results = []
    for own in (), (config_file(UNREADABLE),):
        statuses, outputs = mains(*flags, differing=((), own))
        assert statuses == [0, 0], outputs
        results.append(json.loads((run / "result.json").read_text())["checksum"])
        (run / "result.json").unlink()
    assert "another process cannot read step 2" in outputs[0]
    assert "resuming from the checkpoint of step 1" in outputs[0]
    assert results[0] == results[1]
    assert (run / "damaged_checkpoints" / "2").is_dir()


@pytest.mark.long
def test_states_that_differ_are_said(mains, config_file):
    statuses, outputs = mains(differing=((), (config_file(DRIFTING),)))
    assert statuses == [0, 0], outputs
    for output in outputs:
        assert "the states of the processes differ at step 1" in output


@pytest.mark.long
def test_a_result_that_one_process_cannot_read_is_written_again(mains, config_file):
    for own in (), (config_file(DAMAGED),):
        statuses, outputs = mains(differing=((), own))
        assert statuses == [0, 0], outputs
    assert "resuming from the checkpoint of step 1" in outputs[0]


@pytest.mark.long
def test_a_device_that_is_not_there_on_one_host_ends_both_at_once(mains):
    statuses, outputs = mains(platforms=("cpu", "nothing"))
    assert statuses == [2, 2], outputs
    line = "JAX can start no device with JAX_PLATFORMS='nothing'"
    assert f"process 1 ended: {line}" in outputs[0]
    assert line in outputs[1]


@pytest.mark.long
def test_two_processes_that_read_other_variables_both_say_so(mains, tmp_path):
    for seed, folder in enumerate(("0", "1")):
        place = f"--workdir={tmp_path / folder / 'run'}"
        statuses, outputs = mains(place, f"--config.seed={seed}", differing=((),))
        assert statuses == [0], outputs
    named = "run is ", ", not "
    warm = f"--config.checkpoint.warm_start={ELSEWHERE}"
    assert_refused(mains(warm), *named)
    place = f"--workdir={ELSEWHERE}"
    assert_refused(mains(place, "--mode=eval"), *named)
    assert not list(tmp_path.rglob("eval_*.json"))
