import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from optnet_jax.errors import InputError
from optnet_jax.studies import sweep
from optnet_jax.studies.report import entries
from optnet_jax.studies.report import runs as found
from optnet_jax.studies.tables import with_sd

RESULTS = Path(__file__).parents[2] / "docs" / "results"

# Stands in for a training run: says when it is under way, saves when told to stop.
CHILD = """
import pathlib, signal, sys
def stop(number, frame):
    pathlib.Path(sys.argv[1], "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1], "started").touch()
print("started", flush=True)
while True:
    signal.pause()
"""


def changed(config, **blocks):
    """A config with other fields in some of its blocks."""
    return {**config, **{name: config[name] | new for name, new in blocks.items()}}


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
    assert len(printed(capsys, "digits")) == 5 * 10
    assert len(printed(capsys, "table5")) == 4


def test_workdir_and_flags_reach_every_command(capsys):
    flag = "--config.data.data_dir=/a b"
    lines = printed(capsys, "table5", "--workdir=/elsewhere", "--", flag)
    assert all(line.endswith("'--config.data.data_dir=/a b'") for line in lines)
    assert all(" --workdir=/elsewhere/imagenet_" in line for line in lines)


def test_finished_runs_are_not_printed_again(made_runs, tmp_path, capsys):
    every = printed(capsys, "digits", f"--workdir={tmp_path}")
    done = sweep.plan(entries.DIGITS, range(10), tmp_path)[5]
    made_runs.finish(done.workdir, done.config)
    left = printed(capsys, "digits", f"--workdir={tmp_path}")
    assert [line for line in every if line not in left] == [done.command]


def test_runs_what_is_left_and_goes_on_after_a_failure(made_runs, tmp_path, capsys):
    runs = sweep.plan(entries.DIGITS, [0], tmp_path)
    made_runs.finish(runs[1].workdir, runs[1].config)
    started = []

    def start(arguments):
        run = next(run for run in runs if run.arguments == arguments)
        started.append(run)
        if run is runs[0]:
            return 2
        made_runs.finish(run.workdir, run.config, last=1.25)
        return 0

    assert sweep.run_all(runs, start) == [runs[0]]
    assert started == [runs[0], *runs[2:]]
    said = capsys.readouterr().out
    assert "[1/5] digits_resnet: failed with status 2" in said
    assert "[2/5] digits_resnet-relu=False: finished before" in said
    assert "[3/5] digits_hb: top-1 error 1.25 % (best 4.00 %)" in said


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            lambda config: changed(config, schedule={"epochs": 1.0}),
            "schedule.epochs = 1.0, not 30.0",
        ),
        (lambda config: {**config, "seed": 1}, "seed = 1, not 0"),
        (
            lambda config: changed(config, model={"widths": [3, 4]}),
            "model.widths = [3, 4], not [11, 22]",
        ),
    ],
)
def test_another_run_is_not_taken_for_the_tables(
    made_runs, tmp_path, capsys, config, said
):
    """The same comparison as the report's, which would say "not run"."""
    runs = sweep.plan(entries.DIGITS, [0], tmp_path)[:2]
    made_runs.finish(runs[0].workdir, runs[0].config)
    made_runs.finish(runs[1].workdir, config(runs[1].config))
    assert sweep.run_all(runs, lambda *_: pytest.fail("started")) == [runs[1]]
    printed_lines = capsys.readouterr().out.splitlines()
    assert printed_lines == [
        "[1/2] digits_resnet: finished before",
        f"[2/2] digits_resnet-relu=False: {runs[1].workdir} holds another run ({said})"
        ": move it away or choose another --workdir",
    ]
    if said.startswith("schedule"):
        counted, apart = found.place(found.find([tmp_path]))
        assert [cell.row.network for cell in counted] == ["resnet"]
        assert list(apart.values()) == [[said]]


def test_flags_of_the_sweep_say_what_its_runs_are(made_runs, tmp_path, capsys):
    flag = "--config.schedule.epochs=1.0"
    arguments = ["--seeds=0", f"--workdir={tmp_path}"]
    run = sweep.plan(entries.DIGITS, [0], tmp_path, [flag])[1]
    made_runs.finish(run.workdir, run.config)
    assert len(printed(capsys, "digits", *arguments, "--", flag)) == 4
    assert len(printed(capsys, "digits", *arguments)) == 4
    tied = sweep.plan(entries.DIGITS, [0], tmp_path, ["--config.model.tied=True"])[1]
    assert tied.config["model"]["tied"] is True
    with pytest.raises(InputError, match="model.tied = False, not True"):
        tied.finished()


@pytest.mark.parametrize(
    "flag", ["--config.schedule.epoch=1", "--config.seed=x", "--config.model.tied=best"]
)
def test_a_flag_that_no_run_could_take_is_refused_at_once(flag):
    with pytest.raises(InputError) as caught:
        sweep.main(["digits", "--print", "--", flag])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "\0"])
def test_a_damaged_result_is_no_result(tmp_path, content):
    """The run is started, which says what is wrong and writes it anew."""
    runs = sweep.plan(entries.DIGITS, [0], tmp_path)[:1]
    runs[0].workdir.mkdir()
    (runs[0].workdir / "result.json").write_text(content, "utf-8")
    started = []
    sweep.run_all(runs, lambda arguments: started.append(arguments) or 1)
    assert started == [runs[0].arguments]


def test_a_command_that_ends_well_without_a_result_has_failed(tmp_path):
    runs = sweep.plan(entries.DIGITS, [0], tmp_path)[:1]
    assert sweep.run_all(runs, lambda arguments: 0) == runs


def test_runs_the_command_and_returns_its_status():
    arguments = ["-c", "import sys; sys.exit(5)"]
    assert sweep.run_one(arguments) == 5


def test_sigterm_is_handed_on_and_nothing_more_is_started(tmp_path):
    """A whole sweep as a process, its runs replaced by a child that never finishes."""
    program = (
        "import sys\n"
        "from optnet_jax.runs import program\n"
        "from optnet_jax.studies import sweep\n"
        "from optnet_jax.studies.report import entries\n"
        f"child = ['-c', {CHILD!r}]\n"
        "runs = [run._replace(arguments=[*child, str(run.workdir)])\n"
        "        for run in sweep.plan(entries.DIGITS, [0], "
        f"sweep.Path({str(tmp_path)!r}))]\n"
        "for run in runs:\n"
        "    run.workdir.mkdir()\n"
        "with program.edge():\n"
        "    sweep.run_all(runs)\n"
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


def test_an_unknown_table_is_refused_with_those_that_there_are():
    known = ", ".join(entries.TABLES)
    with pytest.raises(InputError, match=f"no table 'table9': choose {known}$"):
        sweep.main(["table9"])


@pytest.fixture(scope="module")
def digits():
    """What every seed of the printed table of digits left."""
    return json.loads((RESULTS / "seeds.json").read_text("utf-8"))["digits"]


def test_the_page_has_the_errors_of_the_seeds(digits):
    page = (RESULTS / "tables.md").read_text("utf-8")
    planned = sweep.plan(entries.DIGITS, [0], Path())
    for row, first in zip(entries.DIGITS.rows, planned, strict=True):
        run = digits["runs"].get(first.workdir.name)
        if run is None:
            assert f"| {row.label} | not run | not run |" in page
            continue
        last, best = (
            with_sd([100 * n / digits["test_images"] for n in run[name]], 2)
            for name in ("wrong", "wrong_best")
        )
        assert f"| {row.label} | {last} | {best} |" in page
