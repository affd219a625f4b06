import dataclasses
import json
import os
import re
from pathlib import Path

import pytest

from optnet_jax.benchmarks import __main__ as benchmarks
from optnet_jax.benchmarks import depth, timing
from optnet_jax.errors import InputError

SMALL = ("simulation", "--values=2,3", "--batch=2", "--repeats=1")


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    monkeypatch.setattr(depth, "TABLE_2", ("gd",))
    for module in (timing, benchmarks):
        monkeypatch.setattr(module, "has_torch", lambda: False)


def test_suites_are_listed(capsys):
    benchmarks.main([])
    text = " ".join(capsys.readouterr().out.split())
    for name, listed in benchmarks.SUITES.items():
        assert f"{name} {listed.answers}" in text


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md"])
def test_every_command_of_the_docs_is_one(page):
    text = (Path(__file__).parents[2] / page).read_text("utf-8")
    commands = re.findall(
        r"python -m optnet_jax\.benchmarks(?: (\w.*?))?(?:`|\n)", text
    )
    assert commands
    for command in commands:
        benchmarks.make_parser().parse_args(command.split())


@pytest.mark.parametrize("name", benchmarks.SUITES)
def test_every_suite_has_help(name, capsys):
    with pytest.raises(SystemExit) as end:
        benchmarks.main([name, "--help"])
    assert end.value.code == 0
    repeats = benchmarks.SUITES[name].repeats
    assert ("--repeats" in capsys.readouterr().out) == (repeats > 0)


def test_measurements_are_written(tmp_path, capsys):
    files = {name: tmp_path / f"a.{name}" for name in ("json", "markdown")}
    benchmarks.main([*SMALL, *(f"--{name}={file}" for name, file in files.items())])
    result = json.loads(files["json"].read_text("utf-8"))
    assert result["suite"] == "simulation"
    assert {"date", "device", "processor", "jax"} <= set(result["environment"])
    assert {row["at"] for row in result["rows"]} == {2, 3}
    out = capsys.readouterr().out
    assert files["markdown"].read_text("utf-8") in out
    assert out.splitlines()[:4] == [
        "PyTorch is not installed: only ours is measured",
        "GD, 2 layers: compile",
        "GD, remat, 2 layers: compile",
        "2 layers: 1 rounds",
    ]


@pytest.mark.parametrize("option", ["json", "markdown"])
@pytest.mark.parametrize(
    ("place", "message"), [("file/a", "cannot be written"), ("", "is a folder")]
)
def test_a_place_for_no_file_is_found_before_the_measurement(
    tmp_path, monkeypatch, option, place, message
):
    (tmp_path / "file").write_text("kept")
    monkeypatch.setattr(benchmarks, "environment", lambda: pytest.fail("measured"))
    said = f"{message}.*: give the file another place$"
    with pytest.raises(InputError, match=said):
        benchmarks.main([*SMALL, f"--{option}={tmp_path / place}"])
    assert os.listdir(tmp_path) == ["file"]


def test_a_measurement_that_fails_leaves_the_earlier_file(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("kept")
    failing = dataclasses.replace(depth.SIMULATION, measure=lambda *_: 1 / 0)
    monkeypatch.setitem(benchmarks.SUITES, "simulation", failing)
    with pytest.raises(ZeroDivisionError):
        benchmarks.main([*SMALL, f"--json={tmp_path / 'a.json'}"])
    assert os.listdir(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "kept"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed"], "invalid choice: 'speed'"),
        (["--repeats=1"], "unrecognized arguments"),
        (["networks", "--networks=resnet57"], "did you mean 'resnet56'"),
        (["networks", "--repeats=0"], "'0' must be a whole number above 0"),
        (["depth", "--values=56,-1"], "'-1' must be a whole number"),
        (["depth", "--values=57"], r"6 n \+ 2 layers, n > 1, not 57"),
        (["tpu", "--cases=resnet34:4@v5e:3x3"], "no TPU topology is called 'v5e:3x3'"),
        (["tpu", "--cases=resnet34@v5e:2x2"], "'' must be a whole number"),
        (["tpu", "--cases=resnet57:4@v5e:2x2"], "did you mean 'resnet56'"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as error:
        benchmarks.main(arguments)
    assert "\n" not in str(error.value)
