import json

import pytest

from optnet_jax.errors import InputError
from optnet_jax.studies.report import runs


def test_finds_every_run_once_however_it_is_named(tmp_path, make_run):
    first = make_run(tmp_path / "a", "x")
    second = make_run(tmp_path / "b" / "deeper", "x", seed=1)
    found = runs.find([tmp_path, tmp_path / "a", second])
    assert [run.path for run in found] == [first, second]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"config"', "is damaged .*: the same command as of its run writes it anew"),
        # Of another experiment.
        ('{"cells": []}', "it lacks best, config, data"),
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
    groups = runs.group(runs.find([tmp_path]))
    assert [g.label for g in groups] == ["a", "b"]
    assert [run.seed for run in groups[0].runs] == [0, 1]


def test_of_one_seed_the_finished_run_counts_or_the_furthest(make_run, tmp_path):
    made = [
        make_run(tmp_path / str(n), "a", seed=seed, epochs=epochs, finished=finished)
        for n, (seed, epochs, finished) in enumerate(
            [(0, 3, False), (0, 2, True), (1, 1, False), (1, 2, False)]
        )
    ]
    (group,) = runs.group(runs.find([tmp_path]))
    assert [run.path for run in group.runs] == [made[1], made[3]]
    repeats = [[run.path for run in pair] for pair in group.repeats]
    assert repeats == [[made[0], made[1]], [made[2], made[3]]]


def test_equal_names_are_told_apart_by_what_differs(make_run, tmp_path):
    for rate in (0.1, 0.5):
        make_run(tmp_path / str(rate), "a", optimizer={"learning_rate": rate})
    groups = runs.group(runs.find([tmp_path]))
    assert [g.label for g in groups] == [
        "a (optimizer.learning_rate=0.1)",
        "a (optimizer.learning_rate=0.5)",
    ]


def test_runs_on_other_pictures_are_no_copies_and_no_seeds_of_one(make_run, tmp_path):
    """Wherever the pictures lie: their digest counts, and only without it the folder.

    Two states of one set, whose configs are the same, are told apart by it.
    """
    for name, folder, digest in (
        ("a", "cats", "cats" * 16),
        ("a", "moved/cats", "cats" * 16),
        ("b", "flowers", "flowers" * 9),
        ("c", "cats", None),
        ("c", "flowers", None),
    ):
        data = {"dataset": "optnet_folder", "folder": folder}
        run = make_run(tmp_path / folder / name, "x", data=data)
        if digest:
            text = json.dumps({"fingerprint": digest})
            (run / "dataset.json").write_text(text)
    found = {
        g.label: [r.path for r in g.runs] for g in runs.group(runs.find([tmp_path]))
    }
    assert found == {
        "x (data.images=catscatscats)": [tmp_path / "cats" / "a" / "x"],
        "x (data.images=cats)": [tmp_path / "cats" / "c" / "x"],
        "x (data.images=flowersflowe)": [tmp_path / "flowers" / "b" / "x"],
        "x (data.images=flowers)": [tmp_path / "flowers" / "c" / "x"],
    }


def test_damaged_lines_are_left_out_and_said(make_run, tmp_path, caplog):
    run = make_run(tmp_path, "a")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b"\0\0\0\n[1]\n{broken\n")
    (shown,) = runs.find([run])
    assert (
        len(shown.metrics) == len((run / "metrics.jsonl").read_bytes().splitlines()) - 3
    )
    assert "3 of" in caplog.text


def test_a_damaged_config_of_an_unfinished_run_is_named(make_run, tmp_path):
    run = make_run(tmp_path, "a", finished=False)
    (run / "config.json").write_text("{broken\n")
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        runs.find([run])


def test_metrics_alone_are_no_run(make_run, tmp_path):
    run = make_run(tmp_path, "a", finished=False)
    (run / "config.json").unlink()
    with pytest.raises(InputError, match=r"no run of training: .*config.json is miss"):
        runs.find([run])


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
        runs.find([run])
    assert len(str(error.value)) < 300
