import json

import pytest

from optnet_jax.errors import InputError
from optnet_jax.studies.report import runs

AGD = ("digits", "agd_net")


def test_finds_every_run_once_however_it_is_named(tmp_path, made_runs):
    cell = made_runs.cell_of(*AGD)
    first = made_runs.make_run(tmp_path / "a", cell, 0)
    second = made_runs.make_run(tmp_path / "b" / "deeper", cell, 1)
    found = runs.find([tmp_path, tmp_path / "a", second])
    assert [run.path for run in found] == [first, second]


def test_an_entry_holds_its_runs_by_seed(tmp_path, made_runs):
    cell = made_runs.cell_of(*AGD)
    for seed in (2, 0, 1):
        made_runs.make_run(tmp_path, cell, seed)
    placed, apart = runs.place(runs.find([tmp_path]))
    assert {c: [run.seed for run in found] for c, found in placed.items()} == {
        cell: [0, 1, 2]
    }
    assert not apart


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schedule": {"epochs": 1.0}}, "schedule.epochs = 1.0, not 30.0"),
        (
            {"optimizer": {"learning_rate": 0.2}},
            "optimizer.learning_rate = 0.2, not 0.1",
        ),
        ({"model": {"beta": 0.2}}, "model.beta = 0.2, not 0.1"),
    ],
)
def test_a_run_with_another_recipe_does_not_count(tmp_path, made_runs, change, said):
    made_runs.make_run(tmp_path, made_runs.cell_of(*AGD), change=change)
    placed, apart = runs.place(runs.find([tmp_path]))
    assert not placed
    assert list(apart.values()) == [[said]]


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"data_dir": "/elsewhere"}},
        {"log": {"every_steps": 7}},
        {"checkpoint": {"every_epochs": 1.0, "keep": 5}},
        # A field that the recipes had once, or will have.
        {"another": {"field": 1}},
    ],
)
def test_where_and_how_often_things_are_written_does_not_matter(
    tmp_path, made_runs, change
):
    made_runs.make_run(tmp_path, made_runs.cell_of(*AGD), change=change)
    placed, apart = runs.place(runs.find([tmp_path]))
    assert list(placed) == [made_runs.cell_of(*AGD)]
    assert not apart


def test_augmented_and_plain_cifar_are_different_entries(tmp_path, made_runs):
    for column in range(4):
        cell = made_runs.cell_of("table4", "hb_net110", column)
        made_runs.make_run(tmp_path, cell, last=float(column))
    placed, apart = runs.place(runs.find([tmp_path]))
    found = {c.column.label: run.error("final") for c, (run,) in placed.items()}
    assert found == {"C10": 0.0, "C100": 1.0, "C10+": 2.0, "C100+": 3.0}
    assert not apart


def test_the_same_run_twice_is_refused(tmp_path, made_runs):
    cell = made_runs.cell_of(*AGD)
    made_runs.make_run(tmp_path / "a", cell)
    made_runs.make_run(tmp_path / "b", cell)
    with pytest.raises(InputError, match=r"are the same run \(seed 0\)"):
        runs.place(runs.find([tmp_path]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"config"', "is damaged .*: the same command as of its run writes it anew"),
        ("{}", "it lacks best, config"),
        ("[]", "is damaged .it is no JSON object"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, said):
    (tmp_path / "result.json").write_text(text, "utf-8")
    with pytest.raises(InputError, match=said) as error:
        runs.find([tmp_path])
    assert str(tmp_path) in str(error.value)


def test_series_and_errors_of_an_unfinished_run(make_run, tmp_path):
    run = runs.read(make_run(tmp_path, "a", seed=2, epochs=3, finished=False))
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
    groups = runs.group(runs.find([tmp_path], unfinished=True))
    assert [g.label for g in groups] == ["a", "b"]
    assert [run.seed for run in groups[0].runs] == [0, 1]


def test_equal_names_are_told_apart_by_what_differs(make_run, tmp_path):
    for rate in (0.1, 0.5):
        make_run(tmp_path / str(rate), "a", optimizer={"learning_rate": rate})
    groups = runs.group(runs.find([tmp_path], unfinished=True))
    assert [g.label for g in groups] == [
        "a (optimizer.learning_rate=0.1)",
        "a (optimizer.learning_rate=0.5)",
    ]


def test_a_result_of_another_experiment_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"experiment": "table2"}')
    (tmp_path / "result.json").write_text(json.dumps({"cells": []}))
    with pytest.raises(InputError, match="it lacks best, config, data"):
        runs.find([tmp_path], unfinished=True)


def test_damaged_lines_are_left_out_and_said(make_run, tmp_path, caplog):
    run = make_run(tmp_path, "a")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b"\0\0\0\n[1]\n{broken\n")
    (shown,) = runs.find([run], unfinished=True)
    assert (
        len(shown.metrics) == len((run / "metrics.jsonl").read_bytes().splitlines()) - 3
    )
    assert "3 of" in caplog.text


def test_a_damaged_config_of_an_unfinished_run_is_named(make_run, tmp_path):
    run = make_run(tmp_path, "a", finished=False)
    (run / "config.json").write_text("{broken\n")
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        runs.find([run], unfinished=True)


def test_metrics_alone_are_no_run(make_run, tmp_path):
    run = make_run(tmp_path, "a", finished=False)
    (run / "config.json").unlink()
    with pytest.raises(InputError, match=r"no run of training: .*config.json is miss"):
        runs.find([run], unfinished=True)


SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("file", "field"),
    [
        *[("config.json", field) for field in ("seed", "schedule", "model")],
        *[("result.json", field) for field in ("seed", "epochs", "config", "final")],
    ],
)
@pytest.mark.parametrize("value", [SCRIPT, [SCRIPT], None])
def test_a_field_of_another_kind_is_named(make_run, tmp_path, file, field, value):
    run = make_run(tmp_path, "a", finished=file == "result.json")
    content = json.loads((run / file).read_text())
    (run / file).write_text(json.dumps({**content, field: value}))
    with pytest.raises(InputError, match=rf"{file} is damaged \({field}=") as error:
        runs.find([run], unfinished=True)
    assert len(str(error.value)) < 300
