import json

import pytest
from ml_collections import ConfigDict

from optnet_jax.errors import InputError
from optnet_jax.studies import study


def make_config(**fields):
    return ConfigDict(
        {
            "experiment": "squares",
            "name": "squares",
            "seed": 0,
            "parallel_cells": 1,
            **fields,
        }
    )


def run(config, folder, measured):
    """A study of one number; ``measured`` notes each time that it is worked out."""

    def measure(cells):
        measured.append(config.seed)
        cells.mkdir()
        (cells / "one.json").write_text("{}")
        return {**study.provenance(config), "square": config.seed**2}

    def draw(report, plots):
        plots.mkdir()
        (plots / "square.png").write_text(str(report["square"]))
        return [plots / "square.png"]

    return study.run_once(
        "squares",
        config,
        folder,
        measure=measure,
        markdown=lambda report: f"It is {report['square']}.\n",
        draw=draw,
    )


def test_it_is_worked_out_once(tmp_path, capsys):
    measured = []
    report = run(make_config(seed=3), tmp_path, measured)
    assert report == json.loads((tmp_path / "squares.json").read_text("utf-8"))
    assert report["square"] == 9
    assert (tmp_path / "squares.md").read_text("utf-8") == "It is 9.\n"
    printed = capsys.readouterr().out
    assert "It is 9." in printed
    assert "plots/square.png" in printed
    assert run(make_config(seed=3), tmp_path, measured) == report
    assert measured == [3]
    assert "finished before" in capsys.readouterr().out


def test_another_config_is_refused_and_the_difference_named(tmp_path):
    run(make_config(seed=3), tmp_path, [])
    with pytest.raises(InputError, match="seed"):
        run(make_config(seed=4), tmp_path, [])


def test_a_report_says_itself_what_it_is_of(tmp_path):
    run(make_config(seed=3), tmp_path, [])
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match="seed was 3, now 4"):
        run(make_config(seed=4), tmp_path, [])


@pytest.mark.parametrize("content", ["", "[]", '{"square": 9}', "\0\0"])
def test_a_damaged_report_is_named(tmp_path, content):
    run(make_config(), tmp_path, [])
    (tmp_path / "squares.json").write_text(content, "utf-8")
    with pytest.raises(InputError, match=r"squares\.json is damaged: delete it"):
        run(make_config(), tmp_path, [])


def test_what_changes_no_cell_is_no_other_config(tmp_path):
    data = {"dataset": "digits", "data_dir": "here"}
    run(make_config(data=data), tmp_path, [])
    measured = []
    data = {"dataset": "digits", "data_dir": "there"}
    run(make_config(parallel_cells=2, data=data), tmp_path, measured)
    assert measured == []


def test_a_report_comes_last(tmp_path):
    """So a study that was interrupted is not taken for a finished one."""
    with pytest.raises(ZeroDivisionError):
        study.run_once(
            "squares",
            make_config(),
            tmp_path,
            measure=lambda cells: {"square": 0},
            markdown=lambda report: str(1 / report["square"]),
            draw=lambda report, plots: [],
        )
    assert not (tmp_path / "squares.json").exists()
