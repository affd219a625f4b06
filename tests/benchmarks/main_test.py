import json
import os

import pytest

from optnet_jax.benchmarks import __main__ as benchmarks


@pytest.fixture(autouse=True)
def _keep_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)


def test_measurements_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "_has_torch", lambda: False)
    file = tmp_path / "out.json"
    arguments = ["--networks=resnet20", "--batch=2", "--repeats=1", "--image-size=8"]
    assert benchmarks.main([*arguments, f"--json={file}"]) == 0
    rows = json.loads(file.read_text("utf-8"))["rows"]
    assert [row["case"] for row in rows] == [
        "train/resnet20-8px-b2",
        "inference/resnet20-8px-b2",
    ]
    assert all(row["ours"]["median"] > 0 for row in rows)


@pytest.mark.parametrize("argument", ["--networks=resnet57", "--repeats=0"])
def test_bad_input_is_one_line(argument, capsys):
    assert benchmarks.main([argument]) == 2
    assert capsys.readouterr().err.count("\n") == 1
