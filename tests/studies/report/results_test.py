import statistics

import pytest

from optnet_jax.errors import InputError
from optnet_jax.studies.report import results, tables

AGD = ("digits", "agd_net")


def test_finds_every_run_once_however_it_is_named(tmp_path, made_runs):
    cell = made_runs.cell_of(*AGD)
    first = made_runs.make_run(tmp_path / "a", cell, 0)
    second = made_runs.make_run(tmp_path / "b" / "deeper", cell, 1)
    found = results.find([tmp_path, tmp_path / "a", second])
    assert [run.path for run in found] == [first, second]


def test_an_entry_holds_its_runs_by_seed(tmp_path, made_runs):
    cell = made_runs.cell_of(*AGD)
    for seed, last in ((2, 3.0), (0, 1.0), (1, 2.0)):
        made_runs.make_run(tmp_path, cell, seed, last=last)
    entries, apart = results.sort(results.find([tmp_path]), tables.DIGITS)
    filled = [entry for entry in entries if entry.runs]
    assert len(entries) == 4
    assert [entry.cell.row.network for entry in filled] == ["agd_net"]
    assert filled[0].values("final", "top1_error") == {0: 1.0, 1: 2.0, 2: 3.0}
    assert filled[0].seconds_per_epoch == {0: 2.5, 1: 2.5, 2: 2.5}
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
    entries, apart = results.sort(results.find([tmp_path]), tables.DIGITS)
    assert not any(entry.runs for entry in entries)
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
    entries, apart = results.sort(results.find([tmp_path]), tables.DIGITS)
    assert sum(len(entry.runs) for entry in entries) == 1
    assert not apart


def test_augmented_and_plain_cifar_are_different_entries(tmp_path, made_runs):
    for column in range(4):
        cell = made_runs.cell_of("table4", "hb_net110", column)
        made_runs.make_run(tmp_path, cell, last=float(column))
    entries, apart = results.sort(results.find([tmp_path]), tables.TABLE_4)
    found = {
        entry.cell.column.label: entry.values("final", "top1_error")[0]
        for entry in entries
        if entry.runs
    }
    assert found == {"C10": 0.0, "C100": 1.0, "C10+": 2.0, "C100+": 3.0}
    assert not apart


def test_the_same_run_twice_is_refused(tmp_path, made_runs):
    cell = made_runs.cell_of(*AGD)
    made_runs.make_run(tmp_path / "a", cell)
    made_runs.make_run(tmp_path / "b", cell)
    with pytest.raises(InputError, match=r"are the same run \(seed 0\)"):
        results.sort(results.find([tmp_path]), tables.DIGITS)


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
        results.find([tmp_path])
    assert str(tmp_path) in str(error.value)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no directory .*nowhere"):
        results.find([tmp_path / "nowhere"])


def test_mean_and_sample_deviation():
    values = [5.0, 6.0, 8.5]
    assert results.mean_and_deviation(values) == (6.5, statistics.stdev(values))
    assert results.mean_and_deviation([5.0]) == (5.0, None)
