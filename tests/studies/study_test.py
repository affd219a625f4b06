"""A toy study, one file beside the others and one config, run through ``main``."""

import dataclasses
import errno
import json
import os
import sys

import jax
import pytest
from optnet_jax.configs import line

from optnet_jax import configuration, main, studies
from optnet_jax.errors import InputError
from optnet_jax.runs import files
from optnet_jax.studies import dispatch
from optnet_jax.studies.study import StudyConfig

MODULE = """
import dataclasses
from typing import Literal

from matplotlib.figure import Figure

from optnet_jax.errors import InputError
from optnet_jax.studies.study import Study, StudyConfig
from optnet_jax.studies.markdown import markdown_table

MEASURED = []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
    experiment: Literal["squares"] = "squares"
    power: int


@dataclasses.dataclass(frozen=True)
class Cell:
    number: int
    work: float = 1.0

    @property
    def name(self):
        return f"number {self.number}"


def measurement(config):
    if config.power < 0:
        raise InputError("there is no such power")

    def measure(cell):
        MEASURED.append(cell.number)
        return {"value": cell.number**config.power}

    return measure


def text(report):
    rows = [[str(row["number"]), str(row["value"])] for row in report["cells"]]
    yield markdown_table(["n", "value"], rows)
    yield f"The sum is {report['sum']}."


def figures(report):
    figure = Figure()
    figure.subplots().plot([row["value"] for row in report["cells"]])
    return {"squares": figure}


STUDY = Study(
    name="squares",
    config=Config,
    plan=lambda config: [Cell(2), Cell(3)],
    measurement=measurement,
    outcome=lambda row: f"is {row['value']}",
    text=text,
    figures=figures,
    conclude=lambda config, rows: {"sum": sum(row["value"] for row in rows)},
)
"""
CONFIG = """
from ml_collections import ConfigDict


def get_config(args=""):
    return ConfigDict({"name": "squares", "experiment": "squares", "power": 2})
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The module of the study, in a folder that counts to ``studies/``."""
    (tmp_path / "squares.py").write_text(MODULE, "utf-8")
    (tmp_path / "config.py").write_text(CONFIG, "utf-8")
    monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "optnet_jax.studies.squares", raising=False)
    return dispatch.study("squares")


@pytest.fixture
def measured(toy):
    return sys.modules["optnet_jax.studies.squares"].MEASURED


@pytest.fixture
def run(toy, tmp_path):
    """Run the study as the command line does; returns its workdir."""

    def run(**fields):
        config = configuration.load(str(tmp_path / "config.py"))
        with config.unlocked():
            config.update(fields)
        main.run(config, str(tmp_path / "run"), "train")
        return tmp_path / "run"

    return run


def test_one_file_and_one_config_are_a_study(run, measured, capsys):
    folder = run()
    report = json.loads((folder / "squares.json").read_text("utf-8"))
    assert [(row["number"], row["value"]) for row in report["cells"]] == [
        (2, 4),
        (3, 9),
    ]
    assert report["sum"] == 13
    assert {"device", "versions", "config", "finished", "wall_seconds"} < set(report)
    text = (folder / "squares.md").read_text("utf-8")
    assert text.startswith("| n   | value |\n")
    assert f"\n\nThe sum is 13.\n\n{report['device']}, JAX" in text
    assert text.endswith(" s of cells, up to 1 at once.\n")
    assert (folder / "plots/squares.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "[2/2] number 3: is 9; 0 s" in printed
    assert text in printed
    assert "plots/squares.png" in printed
    run()
    assert measured == [2, 3]
    assert "finished before" in capsys.readouterr().out


def test_a_study_that_cannot_begin_leaves_no_workdir(run, tmp_path):
    """Its fault may be known only where what all cells share is made."""
    with pytest.raises(InputError, match="there is no such power"):
        run(power=-1)
    assert not (tmp_path / "run").exists()


def test_what_is_missing_is_measured(run, measured, capsys):
    folder = run()
    (folder / "squares.json").unlink()
    (cell,) = folder.glob("cells/number_3-*.json")
    cell.unlink()
    run(parallel_cells=2)  # how many at once is no other study
    assert measured == [2, 3, 3]
    assert "resuming: 1 of 2 cells are done" in capsys.readouterr().out


@pytest.mark.parametrize("lost", ["nothing", "config.json", "squares.json"])
def test_another_config_is_refused_and_the_difference_named(run, lost):
    """The report says itself what it is of, and the config what the cells are of."""
    (run() / lost).unlink(missing_ok=lost == "nothing")
    with pytest.raises(InputError, match="power was 2, now 3"):
        run(power=3)


def test_a_summary_is_of_the_studys_own_workdir(run, toy, measured):
    folder, config = run(), {"experiment": "squares", "name": "squares", "power": 2}
    assert toy.left(config, folder) == []
    with pytest.raises(InputError, match="power was 2, now 3"):
        toy.left({**config, "power": 3}, folder)
    assert len(toy.left({**config, "power": 3}, folder / "new")) == 2


@pytest.mark.parametrize(
    "content", ["", "[]", '{"sum": 9}', "\0\0", '{"config": {"data": 3}}']
)
def test_a_damaged_report_is_named(run, content):
    (run() / "squares.json").write_text(content, "utf-8")
    with pytest.raises(InputError, match=r"squares\.json is damaged|another config"):
        run()


def test_a_report_of_another_version_is_named(run):
    file = run() / "squares.json"
    report = json.loads(file.read_text("utf-8"))
    del report["cells"]
    file.write_text(json.dumps(report), "utf-8")
    with pytest.raises(InputError, match=r"is damaged or of another version: delete"):
        run()


def test_a_report_without_its_conclusions_has_them_from_its_rows(run, capsys):
    """They are worked out from the rows, so a report outlives its form."""
    file = run() / "squares.json"
    report = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**report, "sum": None}), "utf-8")
    capsys.readouterr()
    run()
    assert "The sum is 13." in capsys.readouterr().out


def test_where_the_data_is_makes_no_other_study():
    from optnet_jax.studies.study import identity

    config = {"seed": 1, "data": {"dataset": "digits", "data_dir": "here"}}
    assert identity(config) == {"seed": 1, "data": {"dataset": "digits"}}


def test_a_report_comes_last(run, toy, monkeypatch):
    """So a study that was interrupted is not taken for a finished one."""
    with monkeypatch.context() as patch:
        patch.setattr(toy.figures.__globals__["Figure"], "subplots", None)
        with pytest.raises(TypeError):
            run()
    folder = run()
    assert (folder / "squares.json").exists()


@pytest.mark.parametrize(
    "name", ["config.json", "number_2-", "squares.md", "squares.json"]
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_workdir_that_cannot_be_written_is_one_line(
    run, measured, tmp_path, monkeypatch, name, number
):
    write = files.write_durably

    def full(path, content):
        if name in path.name:
            raise OSError(number, os.strerror(number), str(path))
        write(path, content)

    with monkeypatch.context() as context:
        context.setattr(files, "write_durably", full)
        match = rf"run could not be written \({os.strerror(number)}\), finished cells"
        with pytest.raises(InputError, match=match):
            run()
    run()
    # What could not be kept is measured again.
    assert measured.count(2) == 1 + (name == "number_2-")
    assert (tmp_path / "run" / "squares.json").exists()


def test_a_workdir_that_is_a_file_is_refused(run, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(InputError, match="not writable"):
        run()


STUDIES = {
    name: ("", "full" if name == "table2" else "quick")
    for name in ("table2", "hypothesis", "equilibrium", "sparse_coding", "line")
} | {"stability": ("", "quick"), "convergence": ("",), "tables": ("digits", "table5")}


def cells_of(study, arguments="", **fields):
    """The cells that a study would measure, with some fields of its config changed."""
    config = configuration.load(f"configs/{study}.py{arguments and f':{arguments}'}")
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    found = dispatch.study(study)
    return found.plan(found.config.of(config))


@pytest.mark.parametrize("study", STUDIES)
def test_every_cell_has_a_name_and_what_defines_it_of_its_own(study):
    for arguments in STUDIES[study]:
        planned = cells_of(study, arguments)
        assert len({cell.name for cell in planned}) == len(set(planned)) == len(planned)
        assert all(cell.work > 0 for cell in planned)
    if study not in ("tables", "convergence"):
        with pytest.raises(InputError, match="the only argument is (quick|full)"):
            cells_of(study, "slow")


@pytest.mark.parametrize("study", STUDIES)
def test_every_config_has_the_fields_that_every_study_has(study):
    config = configuration.load(f"configs/{study}.py")
    assert {field.name for field in dataclasses.fields(StudyConfig)} <= set(config)


TWICE = "must name each once"
APART = "must be different as they are printed"


REFUSED = {
    "table2": [
        ("structures", ("gd", "sgd"), "'sgd'"),
        ("structures", ("gd", "gd"), f"structures=.* {TWICE}"),
        ("structures", ("gd", "agd_readout"), f"readout.structures {TWICE}"),
        ("structures", (), "structures=.* must have at least 1"),
        ("depths", (10, 0), "depths has 0: each must be at least 1"),
        ("depths", (10, 10), f"depths=.* {TWICE}"),
        ("seeds", (), "seeds=.* must have at least 1"),
        ("seeds", ("a",), "seeds has 'a': each must be a whole number"),
        ("steps", 0, "steps=0 must be at least 1"),
        ("task.dim", 0, "task.dim=0 must be at least 1"),
        ("batch_size", 7, "batch_size=7 must divide config.task.samples=10000"),
        ("timing.checkpoints", (0, 5), "timing.checkpoints has 0: each must be at"),
        ("readout.depths", (-1,), "readout.depths has -1: each must be at"),
        ("parallel_cells", 0, "parallel_cells=0 must be at least 1"),
        ("network.activation", "sigmoyd", "'sigmoyd' is unknown: use sigmoid or"),
        ("network.init", "xavier", "xavier_normal"),
        ("optimizer.learning_rate", 0.0, "learning_rate=0.0 must be at least"),
        ("optimizer.momentum", 1.0, r"momentum=1\.0 must be at least 0 and below 1"),
        ("matmul_precision", "high-est", "matmul_precision"),
    ],
    "hypothesis": [
        ("methods", ("GD (7)", "SGD"), "has 'SGD': each is unknown: use GD"),
        ("methods", ("ADMM (14)",), "lacks the baseline, 'GD"),
        ("tuning_seeds", (5,), "tuning_seeds must differ"),
        ("tyings", ("loose",), "has 'loose': each is unknown: use untied or tied"),
        ("untrained_depth", 8, "must be at least the deepest network's 16"),
        ("tolerances", (0.01, 0.01000001), APART),
        ("condition", 1.0, "condition=1.0 must be above 1"),
        ("activation", "swish", "'swish' must be one with slopes in"),
        ("batch_size", 10_000, "must be at least batch_size=10000"),
    ],
    "sparse_coding": [
        ("snr_db", float("nan"), "snr_db"),
        ("snr_db", 1e6, "must be at least -100 and at most 300"),
        ("rows", 0, "rows=0 must be at least 1"),
        ("columns", 10**6, "columns=1000000 must be at least 1 and at most 4096"),
        ("support", 1.5, "support=1.5 must be above 0 and at most 1"),
        (
            "support",
            0.001,
            "leaves 0.5 of 500 entries of x.*: raise it, or batch_size and test_sig",
        ),
        ("seeds", (), r"seeds=\(\) must have at least 1"),
        ("penalty", 0.0, "penalty=0.0 must be above 0"),
        ("levels_db", (3.0,), "levels_db has 3.0: each"),
        ("methods", ("agd",), "methods lacks gd"),
        ("methods", ("gd", "agd_tuned"), "methods has 'agd_tuned'"),
    ],
    "stability": [
        ("trial.depths", (20, 55), "has 55: each must be even and at least 4"),
    ],
    "line": [
        ("depths", (7,), "has 7: each must be even"),
        ("seeds", (3, 100), "has 100, a tuning seed"),
        ("s", (2.5,), "at most 2"),
        # Both are called (1, -1): one of them would be lost.
        ("s", (1.0, 1.001), APART),
    ],
}


@pytest.mark.parametrize(
    ("study", "field", "value", "message"),
    [(study, *case) for study, cases in REFUSED.items() for case in cases],
)
def test_what_cannot_be_run_is_one_line_before_anything_slow(
    study, field, value, message
):
    block = f"{study}." if study in ("hypothesis", "sparse_coding", "line") else ""
    with pytest.raises(InputError, match=message) as caught:
        cells_of(study, **{block + field: value})
    assert "\n" not in str(caught.value)
    assert study != "sparse_coding" or "config.sparse_coding" in str(caught.value)


def test_cells_say_what_made_them_and_another_jax_is_named(run, caplog):
    folder = run()
    (folder / "squares.json").unlink()
    for file in (folder / "cells").glob("*.json"):
        row = json.loads(file.read_text())
        row["versions"]["jax"], row["commit"] = "0.0.1", "abc"
        file.write_text(json.dumps(row))
        break
    run()
    report = json.loads((folder / "squares.json").read_text())
    assert report["versions"]["jax"] == f"0.0.1; {jax.__version__}"
    assert "abc" in report["commit"]
    assert "cells were measured with jax 0.0.1, this is" in caplog.text


def test_another_folder_of_pictures_is_another_study(tmp_path):
    config = line.get_config("quick")
    # Locked, as the command line finds it: the fields are there.
    config.lock().data.update(dataset="optnet_folder", image_size=8, folder="")
    for name, count in (("a", 3), ("b", 4)):
        for kind in "xy":
            (tmp_path / name / kind).mkdir(parents=True)
            for i in range(count):
                (tmp_path / name / kind / f"{i}.png").write_bytes(b"")
    study = dispatch.study("line")

    def of(name):
        config.data.folder = str(tmp_path / name)
        return study.config.of(config)

    report = study.report(of("a"), [])
    file = tmp_path / "line.json"
    file.write_text(json.dumps(report))
    study._earlier(file, of("a"))
    with pytest.raises(InputError, match="data.folder was .*a, now .*b"):
        study._earlier(file, of("b"))
    (tmp_path / "a" / "x" / "more.png").write_bytes(b"")
    with pytest.raises(InputError, match="pictures was"):
        study._earlier(file, of("a"))
