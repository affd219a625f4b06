import json

import pytest

from optnet_jax.errors import InputError
from optnet_jax.studies.report import html_runs


def test_runs_are_found_below_and_only_once(make_run, tmp_path):
    run = make_run(tmp_path / "deep" / "er", "a")
    make_run(tmp_path, "b")
    found = html_runs.find([tmp_path, run])
    assert sorted(r.name for r in found) == ["a", "b"]


def test_series_and_errors_of_an_unfinished_run(make_run, tmp_path):
    run = html_runs.read(make_run(tmp_path, "a", seed=2, epochs=3, finished=False))
    epochs, values = run.series("test/top1_error")
    assert epochs.tolist() == [1, 2, 3]
    assert values.tolist() == [32, 17, 12]
    assert run.error("best") == 12
    assert run.epochs == 3
    assert run.series("no/such")[0].size == 0


def test_groups_differ_in_more_than_the_seed(make_run, tmp_path):
    for seed in (1, 0):
        make_run(tmp_path, "a", seed=seed)
    make_run(tmp_path, "b", seed=0, model={"name": "densenet"})
    groups = html_runs.group(html_runs.find([tmp_path]))
    assert [g.label for g in groups] == ["a", "b"]
    assert [run.seed for run in groups[0].runs] == [0, 1]


def test_equal_names_are_told_apart_by_what_differs(make_run, tmp_path):
    for rate in (0.1, 0.5):
        make_run(tmp_path / str(rate), "a", optimizer={"learning_rate": rate})
    groups = html_runs.group(html_runs.find([tmp_path]))
    assert [g.label for g in groups] == [
        "a (optimizer.learning_rate=0.1)",
        "a (optimizer.learning_rate=0.5)",
    ]


def test_a_result_of_another_experiment_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"experiment": "table2"}')
    (tmp_path / "result.json").write_text(json.dumps({"cells": []}))
    with pytest.raises(InputError, match="it lacks best, config, data"):
        html_runs.find([tmp_path])


def test_damaged_lines_are_left_out_and_said(make_run, tmp_path, caplog):
    run = make_run(tmp_path, "a")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b"\0\0\0\n[1]\n{broken\n")
    (shown,) = html_runs.find([run])
    assert (
        len(shown.metrics) == len((run / "metrics.jsonl").read_bytes().splitlines()) - 3
    )
    assert "3 of" in caplog.text


@pytest.mark.parametrize("name", ["result.json", "config.json"])
def test_damaged_files_are_named(name, make_run, tmp_path):
    run = make_run(tmp_path, "a")
    (run / name).write_text("{broken\n")
    with pytest.raises(InputError, match=name):
        html_runs.find([run])
