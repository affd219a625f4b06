"""Tables of runs that are made by hand, a ``result.json`` each, through the study."""

import dataclasses
import itertools
import json
import os
import signal
import threading
from pathlib import Path

import pytest
from optnet_jax.configs import tables as config_file

from optnet_jax.configuration.overrides import override
from optnet_jax.errors import InputError
from optnet_jax.runs import files, program
from optnet_jax.studies import entries, tables
from optnet_jax.studies.comparison import compare
from optnet_jax.studies.markdown import with_sd
from optnet_jax.studies.study import Programs
from optnet_jax.studies.tables import STUDY, Cell, Runs

RESULTS = Path(__file__).parents[2] / "docs" / "results"

# Stands in for a training run: asks its study to stop, and saves when it is told to.
CHILD = """
import os, pathlib, signal, sys
def stop(number, frame):
    pathlib.Path(sys.argv[1], "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1]).mkdir(parents=True)
os.kill(os.getppid(), signal.SIGTERM)
while True:
    signal.pause()
"""


def cell_of(table, model, seed=0, column=0, overrides=()):
    """The cell of a network, by its name or its label, in a column of a table."""
    columns = len(entries.TABLES[table].columns)
    found = list(entries.TABLES[table].entries())[column::columns]
    entry = next(e for e in found if model in (e.row.network, e.row.label))
    return Cell(entry, seed, overrides)


@pytest.fixture
def made(tmp_path, finish):
    """Leave the result of a cell in the study's workdir, with other fields."""

    def make(cell, *, change=None, **fields):
        config = json.loads(json.dumps(cell.config))
        for block, new in (change or {}).items():
            config[block] = config[block] | new if isinstance(new, dict) else new
        return finish(tmp_path / "runs" / cell.name, config, **fields)

    return make


def config_of(arguments, **fields):
    config = config_file.get_config(arguments)
    config.update(fields)
    return config


def started_by(start):
    """The study, whose runs are started by a function in place of ``Runs.start``."""
    started = type("Started", (Runs,), {"start": staticmethod(start)})
    return dataclasses.replace(STUDY, measurement=Programs(started, ("table",)))


@pytest.fixture
def starting_none():
    """The study, none of whose runs may be started."""
    return started_by(lambda *_: pytest.fail("a run is started"))


def row(markdown, begin):
    """The cells of the first table row that starts so."""
    return rows(markdown, begin)[0]


def rows(markdown, begin):
    lines = [line.strip("|").split("|") for line in markdown.splitlines()]
    cells = [[cell.strip() for cell in line] for line in lines]
    return [line for line in cells if line[0] == begin]


def so_far(folder, capsys, table):
    report = STUDY.report_so_far(config_of(table), folder)
    return report, capsys.readouterr().out


def test_what_is_left_is_a_command_for_each_model_dataset_and_seed(tmp_path):
    lines = STUDY.left(config_of("table4", seeds=(0, 7, 8)), tmp_path)
    assert len(set(lines)) == 8 * 4 * 3
    assert (
        "python -m optnet_jax.main "
        "--config=configs/cifar_agd.py:dataset=cifar100,augment=True,depth=52,seed=7 "
        f"--workdir={tmp_path}/runs/"
        "cifar_agd-dataset=cifar100-augment=True-depth=52-seed=7"
    ) in lines
    assert not list(tmp_path.iterdir())


def test_overrides_reach_every_command(tmp_path):
    config = config_of("table5", overrides=("data.data_dir=/a b",))
    lines = STUDY.left(config, tmp_path)
    assert len(lines) == 4
    assert all(line.endswith(" '--config.data.data_dir=/a b'") for line in lines)


def test_finished_runs_are_not_left(made, tmp_path):
    config = config_of("digits,seeds=0")
    every = STUDY.left(config, tmp_path)
    made(cell_of("digits", "densenet"))
    left = STUDY.left(config, tmp_path)
    (done,) = set(every) - set(left)
    assert "digits_densenet" in done


def test_runs_what_is_left_and_goes_on_after_a_failure(made, finish, tmp_path, capsys):
    config = config_of("digits,seeds=0")
    cells = {cell.name: cell for cell in tables.plan(tables.Config.of(config))}
    made(cells["digits_resnet-relu=False"])
    begun = []

    def run(arguments, stopping):
        folder = Path(arguments[-1].removeprefix("--workdir="))
        begun.append(folder.name)
        if folder.name == "digits_resnet" and len(begun) == 1:
            return 2
        finish(folder, cells[folder.name].config, last=1.25, checksum="59b")
        return 0

    study = started_by(run)
    with pytest.raises(InputError, match="1 of 5 cells failed"):
        study.run(config, tmp_path)
    said = capsys.readouterr().out
    assert "resuming: 1 of 5 cells are done" in said
    assert "[2/5] digits_resnet: failed: it ended with status 2 and no result" in said
    assert "[3/5] digits_hb: 1.25 % (best 4.00 %); 50 s" in said
    assert not (tmp_path / "tables.json").exists()
    study.run(config, tmp_path)
    names = ["digits_resnet", "digits_hb", "digits_densenet", "digits_agd"]
    assert begun == [*names, "digits_resnet"]
    report = json.loads((tmp_path / "tables.json").read_text("utf-8"))
    assert [r["checksum"] for r in report["cells"]] == ["59b", None, *["59b"] * 3]
    assert report["cells"][0]["versions"] == {"jax": "0.10.2"}
    assert report["device"] == "1 x cpu (1 process(es))"
    assert (tmp_path / "plots/digits.png").read_bytes().startswith(b"\x89PNG")
    # A table grows: more seeds are more runs in the same place. These leave nothing.
    with pytest.raises(SystemExit, match="5 of 10 cells failed"):
        started_by(lambda *_: 0).run(config_of("digits,seeds=0-1"), tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schedule": {"epochs": 1.0}}, "schedule.epochs = 1.0, not 30.0"),
        ({"seed": 1}, "seed = 1, not 0"),
        ({"model": {"widths": [3, 4]}}, r"model.widths = \[3, 4\], not \[11, 22\]"),
        ({"optimizer": {"learning_rate": 0.2}}, "learning_rate = 0.2, not 0.1"),
    ],
)
@pytest.mark.parametrize("use", ["run", "left", "report_so_far"])
def test_another_run_is_not_taken_for_the_tables(made, tmp_path, use, change, said):
    made(cell_of("digits", "resnet"), change=change)
    with pytest.raises(InputError, match=rf"holds another run \(.*{said}\): move it"):
        getattr(STUDY, use)(config_of("digits,seeds=0"), tmp_path)


def test_a_run_on_other_pictures_is_not_taken_for_the_tables(made, tmp_path):
    def pictures(name, *sizes):
        for kind, (i, size) in itertools.product("xy", enumerate(sizes)):
            file = tmp_path / name / kind / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"0" * size)
            os.utime(file, (0, 0))
        changes = "dataset=optnet_folder", f"folder={tmp_path / name}", "image_size=8"
        return tuple(f"data.{change}" for change in changes)

    def left(overrides):
        config = config_of("digits,seeds=0", overrides=overrides)
        return len(STUDY.left(config, tmp_path))

    cats, flowers = pictures("cats", 1, 2, 3), pictures("flowers", 1, 2, 4)
    cell = cell_of("digits", "hb_net", overrides=cats)
    run = made(cell)
    # An older version's, which does not say what the pictures were.
    assert left(cats) == 4
    other = r"holds another run \(data.folder = .*cats, not .*flowers as it is now\)"
    with pytest.raises(InputError, match=other):
        left(flowers)
    (run / "dataset.json").write_text(json.dumps({"read_from": cell.read_from}))
    assert left(cats) == left(pictures("moved", 1, 2, 3)) == 4
    with pytest.raises(InputError, match=other):
        left(flowers)
    with pytest.raises(InputError, match=r"cats, not .*cats as it is now"):
        left(pictures("cats", 1, 2, 3, 4))


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"data_dir": "/elsewhere"}},
        {"log": {"every_steps": 7}},
        {"checkpoint": {"every_epochs": 1.0, "keep": 5}},
        # A field that the recipes had once, or will have.
        {"another": 1},
    ],
)
def test_where_and_how_often_things_are_written_does_not_matter(change):
    config = cell_of("digits", "agd_net").config
    other = dict(config)
    for block, new in change.items():
        other[block] = {**config[block], **new} if isinstance(new, dict) else new
    assert not tables.differences(other, config)


def test_a_report_so_far_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_durably", full)
    match = rf"{tmp_path} could not be written \(No space left on device\), finished"
    with pytest.raises(InputError, match=match):
        STUDY.report_so_far(config_of("digits,seeds=0"), tmp_path)


def test_overrides_say_what_the_runs_are(made, tmp_path, capsys):
    overrides = ("schedule.epochs=1.0", "model.remat=True")
    cell = cell_of("digits", "hb_net", overrides=overrides)
    assert cell.config["model"]["remat"] is True
    made(cell)
    config = config_of("digits,seeds=0", overrides=overrides)
    assert len(STUDY.left(config, tmp_path)) == 4
    STUDY.report_so_far(config, tmp_path)
    said = "Every run with schedule.epochs=1.0, model.remat=True."
    assert said in capsys.readouterr().out
    cure = r"model.remat = True, not False.* or give the --config.overrides of that"
    with pytest.raises(InputError, match=cure):
        STUDY.left(config_of("digits,seeds=0"), tmp_path)


@pytest.mark.parametrize(
    "override",
    ["schedule.epoch=1", "seed=x", "seed=3", "name=x", "", "schedule.epochs=-1"]
    + ["model.tied=best", "model.tyed=True", "schedule.epochs"],
)
def test_an_override_that_no_run_could_take_is_refused_at_once(
    override, tmp_path, starting_none
):
    with pytest.raises(InputError) as caught:
        starting_none.run(config_of("digits", overrides=(override,)), tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("sizes", ["(1,1)", "1,1"])
def test_an_override_that_a_comma_cuts_is_shown_in_quotes(sizes):
    def given(text):
        config = config_of("digits")
        override(config, [f"--config.overrides={text}"], lambda _: None)
        return tables.plan(tables.Config.of(config))[0].config

    with pytest.raises(InputError, match="'1.*' is no field=value; where a value has"):
        given(f"onednn=False,model.stage_sizes={sizes}")
    made = given(f"('onednn=False','model.stage_sizes={sizes}')")
    assert made["model"]["stage_sizes"] == [1, 1]


@pytest.mark.parametrize("content", ["", "[]", "\0"])
def test_a_damaged_result_is_no_result(tmp_path, capsys, content):
    """The run is started, which says what is wrong and writes it anew."""
    folder = tmp_path / "runs" / "digits_resnet"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(content, "utf-8")
    assert len(STUDY.left(config_of("digits,seeds=0"), tmp_path)) == 5
    assert f"{folder}/result.json is damaged" in capsys.readouterr().err


def test_runs_the_command_and_returns_its_status():
    command = ["-c", "import sys; sys.exit(5)"]
    assert Runs.start(command, threading.Event()) == 5


def test_a_request_to_stop_is_handed_on_and_nothing_more_is_started(tmp_path, capsys):
    """The study is asked by its run, once that is under way."""

    def start(arguments, stopping):
        folder = arguments[-1].removeprefix("--workdir=")
        return Runs.start(["-c", CHILD, folder], stopping)

    def asked(number, frame):
        raise program.Interrupted(number)

    before = signal.signal(signal.SIGTERM, asked)
    try:
        with pytest.raises(program.Interrupted):
            started_by(start).run(config_of("digits,seeds=0"), tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert os.listdir(tmp_path / "runs") == ["digits_resnet"]
    assert (tmp_path / "runs" / "digits_resnet" / "saved").exists()
    assert "the same command resumes" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["a", "1-", "-3", "0-99999"])
def test_mistaken_seeds_are_refused(text):
    with pytest.raises(InputError, match="write seeds=3 or seeds=0-9"):
        config_file.get_config(f"digits,seeds={text}")


def test_an_unknown_table_is_refused_with_those_that_there_are():
    known = ", ".join(entries.TABLES)
    said = rf"table=table9 is unknown \(did you mean 'table5'\?\): choose {known}$"
    with pytest.raises(InputError, match=said):
        config_file.get_config("table9")


@pytest.mark.parametrize("name", entries.TABLES)
def test_the_tables_have_seeds_of_their_own(name):
    config = config_file.get_config(f"table={name}")
    assert config.seeds == entries.TABLES[name].seeds
    own = tables.Config.of(config_file.get_config(f"{name},seeds=3-4"))
    assert own.seeds == (3, 4)
    assert own.name == config.name


@pytest.mark.parametrize(
    ("name", "page"), [("digits", "tables.md"), ("digits_depth", "digits_depth.md")]
)
def test_the_page_has_the_errors_of_the_seeds(name, page):
    printed = json.loads((RESULTS / "seeds.json").read_text("utf-8"))[name]
    page = (RESULTS / page).read_text("utf-8")
    for entry in entries.TABLES[name].entries():
        run = printed["runs"][Cell(entry, 0).name]
        last, best = (
            with_sd([100 * n / printed["test_images"] for n in run[wrong]], 2)
            for wrong in ("wrong", "wrong_best")
        )
        names = [entry.row.label, *([entry.column.label] if "_" in name else [])]
        assert f"| {' | '.join([*names, last, best])} |" in page


def test_the_page_on_fashion_mnist_has_the_errors_so_far():
    printed = json.loads((RESULTS / "seeds.json").read_text("utf-8"))["fashion"]
    page = (RESULTS / "fashion_mnist.md").read_text("utf-8")
    table = entries.TABLES["fashion"]
    entry_of = {Cell(e, 0).name: e for e in table.entries()}
    errors = {
        name: {
            seed: 100 * wrong / printed["test_images"]
            for seed, wrong in zip(run["seeds"], run["wrong"], strict=True)
        }
        for name, run in printed["runs"].items()
    }
    for name, entry in entry_of.items():
        own = errors.get(name, {})
        row = [entry.row.label]
        row += [f"{own[seed]:.2f}" if seed in own else "" for seed in table.seeds]
        row += [with_sd(list(own.values()), 2) if len(own) > 1 else ""]
        assert f"| {' | '.join(row)} |" in page
    of = {entry.row.label: errors.get(name, {}) for name, entry in entry_of.items()}
    for entry in entry_of.values():
        model, baseline = entry.row.label, entry.row.baseline
        found = compare(of[model], of.get(baseline, {}))
        minus = "\N{MINUS SIGN}"
        row = f"| {model} {minus} {baseline} |"
        assert (row in page) == (found is not None)
        if found is not None:
            mean = f"{found['mean']:+.2f}".replace("-", minus)
            (printed_row,) = [line for line in page.splitlines() if row in line]
            assert f"| {len(found['seeds'])} | {mean} |" in printed_row
            assert f"| {found['p_value']:.2g} |" in printed_row


def test_digits_with_means_deviations_and_the_paired_test(made, tmp_path, capsys):
    """Six seeds of each; HB-Net is always better, AGD-Net half the time."""
    errors = {
        "resnet": [2.0, 2.5, 3.0, 2.0, 2.5, 3.0],
        entries.NO_RELU: [2.0, 2.5, 3.0, 2.0, 2.5, 3.0],
        "hb_net": [1.0, 1.5, 2.0, 1.0, 1.5, 2.0],
        "densenet": [1.0, 2.0, 1.0, 2.0, 1.0, 2.0],
        "agd_net": [2.0, 1.0, 2.0, 1.0, 2.0, 1.0],
    }
    for model, values in errors.items():
        for seed, last in enumerate(values):
            made(cell_of("digits", model, seed), last=last, best=last - 0.5)
    report, printed = so_far(tmp_path, capsys, "digits")
    overview, details = rows(printed, "HB-Net (16)")
    assert overview[1] == "1.50 ± 0.45 (n = 6)"
    assert "30 of 50 runs are finished" in printed
    assert details[1:8] == [
        "digits",
        "0-5",
        "1.50 ± 0.45 (n = 6)",
        "1.00 ± 0.45 (n = 6)",
        "1,234",
        "20",
        "2.50",
    ]
    compared = row(printed, f"HB-Net (16) - {entries.NO_RELU}")
    assert compared[1:] == [
        "digits",
        "6",
        "-1.00",
        "-1.00 to -1.00",
        "0.00",
        "0.0312",
        "0.0938",
        "cannot tell with n = 6 and 3 tests, 7 seeds could",
    ]
    compared = row(printed, "AGD-Net (21) - DenseNet")
    assert compared[3:5] == ["+0.00", "-1.15 to +1.15"]
    assert compared[6:8] == ["1", "1"]
    assert report["comparisons"][1]["p_value"] == 2 / 2**6
    assert (tmp_path / "tables.md").read_text("utf-8") in printed


def test_nobody_ran_it_is_said_entry_by_entry(tmp_path, capsys):
    _, printed = so_far(tmp_path, capsys, "table4")
    assert printed.count("not run") == 32
    assert row(printed, "AGD-Net (L = 40)")[1:] == [
        "6.44 / not run",
        "26.33 / not run",
        "5.20 / not run",
        "24.87 / not run",
    ]
    assert "The paper's DenseNet (L = 40): Huang et al. 2017" in printed
    assert "Compared" not in printed


@pytest.mark.parametrize(
    ("table", "model", "column", "said"),
    [
        ("table4", "agd_net52", 2, ["4.94 / 27.50 (n = 1)"]),
        ("table5", "hb_net34", 0, ["26.33 / 27.50 (n = 1)", "8.56 / 9.00 (n = 1)"]),
    ],
)
def test_ours_stands_beside_the_paper(
    made, tmp_path, capsys, table, model, column, said
):
    cell = cell_of(table, model, column=column)
    made(cell, last=27.5, top5=9.0)
    _, printed = so_far(tmp_path, capsys, table)
    shown = row(printed, cell.entry.row.label)[1:]
    assert shown[column : column + len(said)] == said


def test_runs_of_another_table_are_not_counted_and_said(made, tmp_path, capsys):
    made(cell_of("digits", "agd_net", seed=12))
    report = STUDY.report_so_far(config_of("digits"), tmp_path)
    said = f"1 of {tmp_path / 'runs'}, such as digits_agd-seed=12"
    assert said in capsys.readouterr().err
    assert report["cells"] == []


@pytest.mark.parametrize("use", ["run", "left", "report_so_far"])
def test_a_workdir_belongs_to_one_table_before_it_has_a_report(
    tmp_path, use, starting_none
):
    stopped = started_by(lambda *_: 1)
    with pytest.raises(SystemExit, match="cells failed"):
        stopped.run(config_of("digits,seeds=0"), tmp_path)
    assert not (tmp_path / "tables.json").exists()
    with pytest.raises(InputError, match=r"\(table was digits, now table5\)"):
        getattr(starting_none, use)(config_of("table5"), tmp_path)


@pytest.mark.parametrize("use", ["run", "left", "report_so_far"])
def test_a_workdir_belongs_to_one_table(tmp_path, use, starting_none):
    """Another one would replace its report; another part of it may."""
    STUDY.report_so_far(config_of("digits"), tmp_path)
    STUDY.report_so_far(config_of("digits,seeds=0"), tmp_path)
    kept = (tmp_path / "tables.json").read_bytes()
    said = r"belongs to a study with another config \(table was digits, now table5\)"
    with pytest.raises(InputError, match=said):
        getattr(starting_none, use)(config_of("table5"), tmp_path)
    assert (tmp_path / "tables.json").read_bytes() == kept


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"there is no directory .*nowhere: give"):
        STUDY.report_so_far(config_of("digits"), tmp_path / "nowhere")


def result(table, model, column, seed, error):
    cell = cell_of(table, model, seed, column).entry
    labels = {"model": cell.row.label, "column": cell.column.label}
    return {**labels, "seed": seed, "top1_error": error}


def test_the_picture_shows_each_seed_the_mean_and_the_paper():
    found = [
        result("table4", "agd_net40", 0, seed, error)
        for seed, error in enumerate((6.0, 6.5, 6.5))
    ]
    figure = tables.draw_columns(entries.TABLES["table4"], found)
    axis = figure.axes[0]
    drawn = {line.get_marker(): [] for line in axis.lines}
    for line in axis.lines:
        drawn[line.get_marker()] += list(map(float, line.get_xdata()))
    assert drawn["x"] == [10.05, 10.17, 9.17, 8.66, 7.0, 6.44, 6.05, 5.75]
    assert drawn["o"] == [6.0, 6.5, 6.5]
    assert drawn["|"] == [pytest.approx(19 / 3)]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[5:7] == ["AGD-Net (L = 40)", "DenseNet (L = 52) (not run)"]


def test_errors_over_depth_are_curves_with_intervals():
    found = [
        result("digits_depth", "hb_net", column, seed, error)
        for column, errors in enumerate(((1.0, 2.0), (3.0, 5.0)))
        for seed, error in enumerate(errors)
    ]
    figure = tables.draw_curves(entries.TABLES["digits_depth"], found)
    (axis,) = figure.axes
    assert axis.get_xlabel() == "weight layers"
    lines = {line.get_label(): line for line in axis.lines}
    assert lines["HB-Net (16)"].get_xydata().tolist() == [[6.0, 1.5], [14.0, 4.0]]
    assert len(lines["Plain (7) (not run)"].get_xdata()) == 0
    [band] = axis.collections
    # Student's t for one degree of freedom is 12.7: half = 12.7 * sd / sqrt 2.
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(
        4 + 12.706, abs=0.01
    )
