import contextlib
import errno
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

from optnet_jax import configuration, data, main
from optnet_jax.data import source
from optnet_jax.errors import InputError, shown
from optnet_jax.runs import files
from optnet_jax.studies import dispatch
from optnet_jax.studies.study import Study

DIGITS = "--config=configs/digits_agd.py"
STUDIES = [
    "convergence",
    "equilibrium",
    "hypothesis",
    "line",
    "sparse_coding",
    "stability",
    "table2",
    "tables",
]


def call(*arguments):
    """Run the command line as a user does; parsing alone imports no JAX."""
    return subprocess.run(
        [sys.executable, "-m", "optnet_jax.main", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [DIGITS, "--config.optimizer.learning_rate=abc"],
            "--config.optimizer.learning_rate='abc' must be a finite number",
        ),
        (
            [DIGITS, "--config.data.batch_size=1.5"],
            "--config.data.batch_size=1.5 must be a whole number",
        ),
        (
            [DIGITS, "--distributed=2"],
            "--distributed='2' must be True or False",
        ),
        (
            ["--config=configs/digit_agd.py"],
            "there is no config file configs/digit_agd.py; did you mean "
            "configs/digits_agd.py?",
        ),
        (
            [f"{DIGITS}:sed=1"],
            "config argument 'sed=1' is unknown (did you mean 'seed'?): the "
            "arguments are seed=0",
        ),
        (
            [DIGITS, "--wrkdir=x"],
            "Unknown command line flag 'wrkdir'. Did you mean: workdir ?",
        ),
        (
            [DIGITS, "--seed=3"],
            "Unknown command line flag 'seed': did you mean --config.seed?",
        ),
        (
            [DIGITS, "--learning_rate=1"],
            "Unknown command line flag 'learning_rate': did you mean "
            "--config.optimizer.learning_rate?",
        ),
        (
            [DIGITS, "--mode=evaluate"],
            "flag --mode=evaluate: value should be one of "
            "<train|eval|summary|predict|export>",
        ),
        (
            [DIGITS, "train"],
            "'train' is not a flag: write --config=FILE, --workdir=DIR or "
            "--config.field=value",
        ),
        (
            [DIGITS, "--mode=predict", "--images", "a.png", "b.png", "--workdir=x"],
            "'b.png' is not a flag: write --images before each file, or once before "
            "their folder",
        ),
        (
            [DIGITS, "--config.seed=-1"],
            "--config.seed=-1 must be at least 0 and at most 4294967295",
        ),
        # Of more than one field, before anything slow.
        (
            [DIGITS, "--config.optimizer.accumulate=3"],
            "config.optimizer.accumulate=3 does not divide config.data.batch_size=64: "
            "micro-batches are of equal size",
        ),
        ([], "--config is missing: give one of configs/"),
    ],
)
def test_a_command_line_that_cannot_be_run(arguments, message, monkeypatch):
    fresh = flags.FlagValues()
    fresh.append_flag_values(flags.FLAGS)
    monkeypatch.setattr(main.flags, "FLAGS", fresh)
    with pytest.raises(InputError) as caught:
        main.parse_flags(["main", *arguments])
    said = str(caught.value)
    assert said == message or (message.endswith("/") and said.startswith(message))
    assert "\n" not in said


def test_bad_input_is_one_line_and_status_2():
    done = call(DIGITS, "--config.optimzer.learning_rate=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: --config.optimzer.learning_rate: there is no such config field; "
        "did you mean --config.optimizer.learning_rate?\n"
    )


def test_an_error_of_the_run_is_one_line_too(tmp_path):
    done = call(DIGITS, "--config.model.name=agdnet", f"--workdir={tmp_path}")
    assert done.returncode == 2
    begun, library = done.stdout.splitlines()
    assert begun == f"digits_agd: train in {tmp_path}; loading"
    assert library.startswith("jax ")
    assert ", convolutions: oneDNN o" in library
    assert done.stderr.startswith("error: unknown network 'agdnet' (did you mean 'agd")
    assert done.stderr.count("\n") == 1


WITHOUT_TENSORFLOW = """
import sys
from optnet_jax import configuration, main
for mode in ("train", "eval"):
    config = configuration.load("configs/digits_agd.py")
    config.model.stage_sizes = (1, 1)
    config.schedule.steps = 1
    main.run(config, sys.argv[1], mode)
from optnet_jax.studies.report import __main__
heavy = {"tensorflow", "sklearn", "plotly"} & set(sys.modules)
assert not heavy, heavy
"""


def test_a_small_set_needs_no_tensorflow(tmp_path):
    source.prepared_builder(data.get_spec("optnet_digits"), "")
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "drawn: " in done.stdout


def test_studies_are_called_by_name(monkeypatch, tmp_path):
    calls = []

    def run(study, config, workdir):
        calls.append(study.name)

    monkeypatch.setattr(Study, "run", run)
    for name in STUDIES:
        config = configuration.load("configs/digits_agd.py")
        config.experiment = name
        main.run(config, str(tmp_path), "train")
    assert calls == STUDIES


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("mode", ["predict", "export", "eval", "summary"])
def test_a_study_is_not_started_by_other_modes(name, mode, monkeypatch, tmp_path):
    monkeypatch.setattr(Study, "run", None)
    config = configuration.load(f"configs/{name}.py")
    ending = contextlib.nullcontext()
    if mode in ("predict", "export"):
        ending = pytest.raises(InputError, match=f"{name} is a study, which has no che")
    elif mode == "eval" and name != "tables":
        ending = pytest.raises(InputError, match=f"{name} is a study that has a report")
    with ending:
        main.run(config, str(tmp_path), mode)
    assert (tmp_path / "tables.md").exists() == (name == "tables" and mode == "eval")


@pytest.mark.parametrize(
    ("name", "mode", "more", "said"),
    [
        (
            "convergence",
            "summary",
            {"topology": "v5e:2x2"},
            "compiled for it: leave out",
        ),
        ("convergence", "summary", {"images": ["x.png"]}, "--images is for --mode=pre"),
        (
            "digits_hb",
            "train",
            {"topology": "v5e:4x4"},
            "'v5e:4x4', a training step is only compiled for it: add --mode=summary",
        ),
        (
            "digits_hb",
            "summary",
            {"topology": "v5e:4"},
            "no TPU topology is called 'v5e:4'",
        ),
    ],
)
def test_what_a_mode_has_no_use_for_is_refused(name, mode, more, said, tmp_path):
    config = configuration.load(f"configs/{name}.py")
    with pytest.raises(InputError, match=said):
        main.run(config, str(tmp_path), mode, **more)


@pytest.mark.parametrize("mode", ["evaluate", "test", "", None])
def test_an_unknown_mode_trains_nothing(mode, tmp_path):
    config = configuration.load("configs/digits_hb.py")
    with pytest.raises(InputError, match=r"^mode=.* (unknown: use train or|be text)"):
        main.run(config, str(tmp_path / "run"), mode)
    assert not (tmp_path / "run").exists()


def test_a_table_of_runs_leaves_the_devices_to_its_runs():
    for name in ("digits_agd", *STUDIES):
        config = configuration.load(f"configs/{name}.py")
        assert dispatch.computes(config, "train") == (name != "tables")
        assert not dispatch.computes(config, "summary")


@pytest.mark.parametrize("name", STUDIES)
def test_a_studys_config_is_checked_where_it_begins(name, tmp_path):
    config = configuration.load(f"configs/{name}.py")
    with config.unlocked():
        config.sede = 3
    with pytest.raises(InputError, match="config.sede: there is no such config field"):
        main.run(config, str(tmp_path / "run"), "train")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "workdir", ["gs://bucket/run", "s3://bucket/run", "\udcff", ""]
)
@pytest.mark.parametrize("mode", dispatch.MODES)
def test_a_workdir_is_a_folder_of_this_machine(workdir, mode):
    config = configuration.load("configs/digits_agd.py")
    with pytest.raises(InputError, match="workdir=.* must be"):
        main.run(config, workdir, mode)


def test_a_workdirs_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = configuration.load("configs/digits_hb.py")
    config.model.stage_sizes = (1, 1)
    main.run(config, "~/run", "summary")
    assert (tmp_path / "run" / "plots" / "structure.png").exists()


@pytest.mark.parametrize("flag", ["-h", "--help", "--helpfull"])
@pytest.mark.parametrize("config", [(), ("--config=configs/digits_agd.py",)])
def test_help_ends_well(flag, config, capsys):
    with pytest.raises(SystemExit) as ended:
        main.parse_flags(["main", *config, flag])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "--workdir" in shown
    assert ("--config.optimizer.learning_rate: 0.1" in shown) == bool(config)


@pytest.mark.parametrize("experiment", [np.ones(2), [1], None, 3, "tabel2"])
def test_an_unknown_experiment_is_named(experiment, tmp_path):
    match = f"{re.escape(shown(experiment))}.* is unknown: use train, convergence"
    with pytest.raises(InputError, match=match):
        main.run({"name": "x", "experiment": experiment}, str(tmp_path), "train")


def test_summary_describes_and_draws_without_data(tmp_path, capsys):
    config = configuration.load("configs/cifar_agd.py")
    config.model.stage_sizes = (2, 2)
    main.run(config, str(tmp_path), "summary")
    printed, said = capsys.readouterr()
    assert said == "tracing the network; one of hundreds of layers takes minutes\n"
    assert "multiply-adds" in printed
    assert "training memory at batch 64" in printed
    figure = tmp_path / "plots" / "structure.png"
    assert f"drawn: {figure}" in printed
    assert figure.stat().st_size > 5_000


def test_summary_of_a_network_without_stages_draws_nothing(tmp_path, capsys):
    config = configuration.load("configs/digits_agd.py")
    config.data.dataset = "cifar10"
    config.model = {"name": "lenet5", "num_classes": 10}
    main.run(config, str(tmp_path), "summary")
    assert "drawn" not in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_summary_in_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    config = configuration.load("configs/cifar_hb.py")
    with pytest.raises(InputError, match="cannot be written"):
        main.run(config, str(tmp_path / "file"), "summary")


def test_training_draws_its_plots(small, tmp_path, capsys):
    config = small.small_config(**{"schedule.steps": 4})
    main.run(config, str(tmp_path), "train")
    drawn = {file.name for file in (tmp_path / "plots").iterdir()}
    assert drawn == {"learning_curve.png", "coefficients.png"}
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["steps"] == 4
    assert result["images_per_second"] > 0
    said = capsys.readouterr().out
    assert "drawn: " in said
    assert re.search(r"(compiled|loaded) the training step in \d+\.\d s", said)
    assert re.search(r"top-1 error .* %  [\d,.]+ images/s  ETA 0:00\n", said)
    main.run(config, str(tmp_path), "eval")
    assert (tmp_path / "eval_4.json").exists()
    assert "step 4, optnet_digits generated" in capsys.readouterr().out


def test_a_disk_that_is_full_when_the_plots_are_drawn(small, tmp_path, monkeypatch):
    config = small.small_config(**{"schedule.steps": 1})
    write = files.write_durably

    def full(path, content):
        if path.parent.name == "plots":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    monkeypatch.setattr(files, "write_durably", full)
    with pytest.raises(InputError, match=r"plots/.*No space left.*make room"):
        main.run(config, str(tmp_path), "train")
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 1
    # The same command draws what is missing.
    monkeypatch.setattr(files, "write_durably", write)
    main.run(config, str(tmp_path), "train")
    drawn = {file.name for file in (tmp_path / "plots").iterdir()}
    assert "learning_curve.png" in drawn
