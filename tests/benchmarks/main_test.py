import json
import os

import pytest

from optnet_jax.benchmarks import __main__ as benchmarks
from optnet_jax.benchmarks import activity, simulation


@pytest.fixture(autouse=True)
def _keep_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)


@pytest.mark.parametrize("name", benchmarks.SUITES)
def test_every_suite_has_help(name, capsys):
    with pytest.raises(SystemExit) as end:
        benchmarks.main([name, "--help"])
    assert end.value.code == 0
    assert benchmarks.SUITES[name].split()[0] in capsys.readouterr().out


def test_measurements_are_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(simulation, "STRUCTURES", {"GD": "gd"})
    json_file, markdown, figure = (tmp_path / n for n in ("a.json", "a.md", "a.png"))
    arguments = ["--values=2,3", "--batch=2", "--repeats=1", f"--figure={figure}"]
    files = [f"--json={json_file}", f"--markdown={markdown}"]
    assert benchmarks.main(["simulation", *arguments, *files]) == 0
    result = json.loads(json_file.read_text("utf-8"))
    assert result["suite"] == "simulation"
    assert {"date", "device", "processor", "jax"} <= set(result["environment"])
    assert {row["at"] for row in result["rows"]} == {2, 3}
    assert markdown.read_text("utf-8") in capsys.readouterr().out
    assert figure.stat().st_size > 10_000


def test_what_is_begun_is_said_from_the_first_moment(capsys, monkeypatch):
    monkeypatch.setattr(activity, "PATIENCE", 1e6)
    monkeypatch.setattr(simulation, "STRUCTURES", {"GD": "gd"})
    arguments = ["--values=2", "--batch=2", "--repeats=1"]
    assert benchmarks.main(["simulation", *arguments]) == 0
    assert capsys.readouterr().out.splitlines()[:4] == [
        "simulation: load",
        "GD, 2 layers: compile",
        "GD, remat, 2 layers: compile",
        "2 layers: 1 rounds",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["speed"],
        ["--networks=resnet57"],
        ["networks", "--repeats=0"],
        ["convolutions", "--cases=4x8"],
        ["depth", "--values=56,-1"],
        ["depth", "--values=57"],
        ["table2", "--steps=0"],
        ["pipelines", "--batches=0"],
        ["scaling", "--devices=none"],
    ],
)
def test_bad_input_is_one_line(arguments, capsys):
    assert benchmarks.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
