import json
import os
import signal
import subprocess
import sys

import pytest

from optnet_jax.errors import InputError
from optnet_jax.studies import sweep
from optnet_jax.studies.report import tables

# Stands in for a training run: says when it is under way, saves when told to stop.
CHILD = """
import pathlib, signal, sys, time
def stop(number, frame):
    pathlib.Path(sys.argv[1], "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1], "started").touch()
print("started", flush=True)
while True:
    time.sleep(0.05)
"""


def finish(run, last=1.25):
    run.workdir.mkdir(parents=True)
    result = {"final": {"top1_error": last}, "best": {"top1_error": last}}
    (run.workdir / "result.json").write_text(json.dumps(result), "utf-8")


def printed(capsys, *arguments):
    assert sweep.main(["--print", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_prints_one_command_for_each_model_dataset_and_seed(capsys):
    lines = printed(capsys, "table4", "--seeds=0,7-8")
    assert len(set(lines)) == 8 * 4 * 3
    assert (
        "python -m optnet_jax.main "
        "--config=configs/cifar_agd.py:dataset=cifar100,augment=True,depth=52,seed=7 "
        "--workdir=runs/cifar_agd-dataset=cifar100-augment=True-depth=52-seed=7"
    ) in lines


def test_the_tables_have_seeds_of_their_own(capsys):
    assert len(printed(capsys, "digits")) == 4 * 10
    assert len(printed(capsys, "table5")) == 4


def test_workdir_and_flags_reach_every_command(capsys):
    flag = "--config.data.data_dir=/a b"
    lines = printed(capsys, "table5", "--workdir=/elsewhere", "--", flag)
    assert all(line.endswith("'--config.data.data_dir=/a b'") for line in lines)
    assert all(" --workdir=/elsewhere/imagenet_" in line for line in lines)


def test_finished_runs_are_not_printed_again(tmp_path, capsys):
    every = printed(capsys, "digits", f"--workdir={tmp_path}")
    done = sweep.plan(tables.DIGITS, range(10), tmp_path)[5]
    finish(done)
    left = printed(capsys, "digits", f"--workdir={tmp_path}")
    assert [line for line in every if line not in left] == [sweep.command_line(done)]


def test_runs_what_is_left_and_goes_on_after_a_failure(tmp_path, capsys):
    runs = sweep.plan(tables.DIGITS, [0], tmp_path)
    finish(runs[1], last=3.0)
    started = []

    def start(arguments, environment):
        run = next(run for run in runs if run.arguments == arguments)
        started.append(run)
        cache = environment["JAX_COMPILATION_CACHE_DIR"]
        assert cache == str(tmp_path / ".compilation_cache")
        if run is runs[0]:
            return 2
        finish(run)
        return 0

    assert sweep.run_all(runs, start) == [runs[0]]
    assert started == [runs[0], runs[2], runs[3]]
    said = capsys.readouterr().out
    assert "[1/4] digits_resnet: failed with status 2" in said
    assert "[2/4] digits_hb: finished before" in said
    assert "[3/4] digits_densenet: top-1 error 1.25 % (best 1.25 %)" in said


def test_a_command_that_ends_well_without_a_result_has_failed(tmp_path):
    runs = sweep.plan(tables.DIGITS, [0], tmp_path)[:1]
    assert sweep.run_all(runs, lambda arguments, environment: 0) == runs


def test_runs_the_command_and_returns_its_status():
    arguments = ["-c", "import sys; sys.exit(5)"]
    assert sweep.run_one(arguments, dict(os.environ)) == 5


def test_sigterm_is_handed_on_and_nothing_more_is_started(tmp_path):
    """A whole sweep as a process, its runs replaced by a child that never finishes."""
    program = (
        "import sys\n"
        "from optnet_jax.studies import sweep\n"
        "from optnet_jax.studies.report import tables\n"
        f"child = ['-c', {CHILD!r}]\n"
        "runs = [sweep.Planned(run.workdir, [*child, str(run.workdir)])\n"
        "        for run in sweep.plan(tables.DIGITS, [0], "
        f"sweep.Path({str(tmp_path)!r}))]\n"
        "for run in runs:\n"
        "    run.workdir.mkdir()\n"
        "sweep.run_all(runs)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "started\n":
                process.send_signal(signal.SIGTERM)
                break
        process.stdout.read()
        assert process.wait() == 128 + signal.SIGTERM
    assert (tmp_path / "digits_resnet" / "saved").exists()
    assert len(list(tmp_path.glob("*/started"))) == 1


@pytest.mark.parametrize("text", ["", "a", "1-", "0,,1", "-3"])
def test_mistaken_seeds_are_refused(text):
    with pytest.raises(InputError, match="write a list such as"):
        sweep.parse_seeds(text)


def test_a_seed_is_run_once():
    assert sweep.parse_seeds("3,0-3") == [3, 0, 1, 2]


def test_an_unknown_table_is_one_line_and_status_2(capsys):
    assert sweep.main(["table9"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "error: there is no table 'table9': choose digits, table4, table5, "
        "digits_depth\n"
    )
