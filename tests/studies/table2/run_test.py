"""The study end to end, small: files, what is printed, and going on."""

import json
import shutil

import pytest
from optnet_jax.configs import table2 as config_file

from optnet_jax.errors import InputError
from optnet_jax.studies.table2 import run as table2

FILES = ("config.json", "table2.json", "table2.md", "plots/table2.png")


def small_config():
    config = config_file.get_config()
    config.task = {"samples": 40, "dim": 8}
    config.batch_size, config.steps = 10, 6
    config.seeds, config.depths = (0, 1), (3,)
    config.structures = ("gd", "agd2", "agd2_slow")
    config.readout = {"structures": ("agd_readout",), "depths": (3,)}
    config.timing = {"depth": 3, "checkpoints": (2, 9)}
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workdir with the finished study, not to be changed."""
    workdir = tmp_path_factory.mktemp("table2")
    report = table2.run(small_config(), workdir)
    return workdir, report


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy of it."""
    return shutil.copytree(finished[0], tmp_path / "copy")


@pytest.fixture
def trained(monkeypatch):
    """The names of the cells that are trained from now on."""
    names, train_cell = [], table2.train_cell

    def noted(cell, config):
        names.append(cell.name)
        return train_cell(cell, config)

    monkeypatch.setattr(table2, "train_cell", noted)
    return names


def file_of(workdir, structure):
    (file,) = workdir.glob(f"cells/{structure}_depth3-*.json")
    return file


def test_it_leaves_its_files(finished):
    workdir, report = finished
    assert json.loads((workdir / "table2.json").read_text("utf-8")) == report
    assert (workdir / "plots/table2.png").read_bytes().startswith(b"\x89PNG")
    assert "| GD (7) " in (workdir / "table2.md").read_text("utf-8")
    assert {"device", "versions", "config", "paper", "wall_seconds"} <= set(report)
    assert report["versions"]["jax"]
    assert [c["structure"] for c in report["cells"]] == [
        "gd",
        "agd2",
        "agd2_slow",
        "agd_readout",
    ]


def test_a_cell_holds_every_seed_and_its_excess(finished):
    _, report = finished
    for cell in report["cells"]:
        assert cell["seeds"] == [0, 1]
        assert cell["checkpoints"] == [2, 6, 9]
        for i in range(2):
            excess = cell["mse"][i][1] - cell["target_power"][i]
            assert cell["final"]["excess"]["per_seed"][i] == pytest.approx(excess)
    rates = {c["structure"]: c["learning_rate"] for c in report["cells"]}
    assert rates["agd2_slow"] == pytest.approx(0.1 * rates["agd2"])


def test_it_goes_on_with_the_cells_that_are_missing(workdir, trained, capsys):
    before = json.loads((workdir / "table2.json").read_text("utf-8"))
    (workdir / "table2.json").unlink()
    file_of(workdir, "agd2").unlink()
    config = small_config()
    config.parallel_cells = 1  # how many at once is no other study
    after = table2.run(config, workdir)
    assert trained == ["agd2_depth3"]
    assert "going on: 3 of 4 cells are there" in capsys.readouterr().out
    for old, new in zip(before["cells"], after["cells"], strict=True):
        assert new["mse"] == old["mse"]
    assert all((workdir / name).exists() for name in FILES)


def test_once_finished_it_says_so(workdir, trained, capsys):
    report = table2.run(small_config(), workdir)
    out = capsys.readouterr().out
    assert trained == []
    assert "finished before" in out
    assert (workdir / "table2.md").read_text("utf-8") in out
    assert report["cells"]


@pytest.fixture
def stored(finished):
    """What training each cell gave, by the cell's name."""
    files = (finished[0] / "cells").glob("*.json")
    return {
        file.stem.rpartition("-")[0]: json.loads(file.read_text("utf-8"))
        for file in files
    }


def test_progress_is_printed_for_each_cell(tmp_path, monkeypatch, stored, capsys):
    monkeypatch.setattr(table2, "train_cell", lambda cell, _: stored[cell.name])
    table2.run(small_config(), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if line.startswith("[")]
    assert [line[:5] for line in lines] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert all("3 layers: MSE" in line and " left" in line for line in lines)


def test_ctrl_c_keeps_what_is_done(tmp_path, monkeypatch, stored):
    def interrupted(cell, config):
        if cell.structure == "agd2":
            raise KeyboardInterrupt
        return stored[cell.name]

    monkeypatch.setattr(table2, "train_cell", interrupted)
    config = small_config()
    config.parallel_cells = 1
    with pytest.raises(SystemExit) as caught:
        table2.run(config, tmp_path)
    assert caught.value.code == 130
    assert file_of(tmp_path, "gd").exists()
    assert not (tmp_path / "table2.json").exists()
    assert not list((tmp_path / "cells").glob("agd2_depth3*"))


def test_a_workdir_of_another_config_is_refused_in_one_line(workdir):
    config = small_config()
    config.optimizer.learning_rate = 0.2
    with pytest.raises(InputError, match=r"learning_rate was 0\.1, now 0\.2") as caught:
        table2.run(config, workdir)
    assert "\n" not in str(caught.value)
    assert json.loads((workdir / "config.json").read_text("utf-8"))["optimizer"][
        "learning_rate"
    ] == pytest.approx(0.1)


def test_a_damaged_cell_is_named(workdir):
    (workdir / "table2.json").unlink()
    file_of(workdir, "gd").write_text('{"mse": [')
    with pytest.raises(InputError, match=r"gd_depth3-\w+\.json is damaged: delete it"):
        table2.run(small_config(), workdir)


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not writable"):
        table2.run(small_config(), tmp_path / "file" / "run")
