import json
import re

import pytest
from matplotlib.figure import Figure

from optnet_jax.errors import InputError
from optnet_jax.studies.report import __main__ as report
from optnet_jax.studies.report import entries, figure, runs
from optnet_jax.studies.report.summary import summarize


@pytest.fixture
def digits_runs(tmp_path, made_runs):
    """Six seeds of each family; HB-Net is always better, AGD-Net half the time."""
    errors = {
        "resnet": [2.0, 2.5, 3.0, 2.0, 2.5, 3.0],
        entries.NO_RELU: [2.0, 2.5, 3.0, 2.0, 2.5, 3.0],
        "hb_net": [1.0, 1.5, 2.0, 1.0, 1.5, 2.0],
        "densenet": [1.0, 2.0, 1.0, 2.0, 1.0, 2.0],
        "agd_net": [2.0, 1.0, 2.0, 1.0, 2.0, 1.0],
    }
    root = tmp_path / "runs"
    for network, values in errors.items():
        cell = made_runs.cell_of("digits", network)
        for seed, last in enumerate(values):
            made_runs.make_run(root, cell, seed, last=last, best=last - 0.5)
    return root


def row(markdown, start):
    """The cells of the first table row that starts so."""
    return rows(markdown, start)[0]


def rows(markdown, start):
    lines = [line.strip("|").split("|") for line in markdown.splitlines()]
    cells = [[cell.strip() for cell in line] for line in lines]
    return [line for line in cells if line[0] == start]


def test_digits_with_means_deviations_and_the_paired_test(digits_runs, capsys):
    report.main([str(digits_runs)])
    printed = capsys.readouterr().out
    overview, details, fashion, depth = rows(printed, "HB-Net (16)")
    assert (fashion[1:], depth[1:]) == (["not run"], ["not run"] * 3)
    assert overview[1] == "1.50 ± 0.45 (n = 6)"
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
        "cannot tell with n = 6 and 3 tests",
    ]
    compared = row(printed, "AGD-Net (21) - DenseNet")
    assert compared[3:5] == ["+0.00", "-1.15 to +1.15"]
    assert compared[6:8] == ["1", "1"]


def test_nobody_ran_it_is_said_entry_by_entry(tmp_path, capsys):
    report.main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.count("not run") == 5 + 7 + 32 + 8 + 18 + 12
    assert row(printed, "AGD-Net (L = 40)")[1:] == [
        "6.44 / not run",
        "26.33 / not run",
        "5.20 / not run",
        "24.87 / not run",
    ]
    assert row(printed, "AGD-Net-121")[1:] == ["24.62 / not run", "7.39 / not run"]
    assert "Compared" not in printed


def test_ours_stands_beside_the_paper(tmp_path, made_runs, capsys):
    cell = made_runs.cell_of("table4", "agd_net52", column=2)
    made_runs.make_run(tmp_path, cell, last=5.25)
    cell = made_runs.cell_of("table5", "hb_net34")
    made_runs.make_run(tmp_path, cell, last=27.5, top5=9.0)
    report.main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert row(printed, "AGD-Net (L = 52)")[3] == "4.94 / 5.25 (n = 1)"
    assert row(printed, "HB-Net-34")[1:] == [
        "26.33 / 27.50 (n = 1)",
        "8.56 / 9.00 (n = 1)",
    ]


def test_a_run_that_does_not_count_is_listed_with_the_reason(
    tmp_path, made_runs, capsys
):
    cell = made_runs.cell_of("table4", "agd_net40")
    change = {"schedule": {"epochs": 1.0}}
    made_runs.make_run(tmp_path, cell, last=77.0, change=change)
    report.main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert row(printed, "AGD-Net (L = 40)")[1] == "6.44 / not run"
    last = printed.strip().splitlines()[-1]
    assert "top-1 error 77.00 % (schedule.epochs = 1.0, not 300.0)" in last


def test_the_reason_is_the_difference_from_the_nearest_entry(
    tmp_path, made_runs, capsys
):
    """AGD-Net on digits has entries in two tables, at three depths in one of them."""
    cell = made_runs.cell_of("digits", "agd_net")
    made_runs.make_run(tmp_path, cell, change={"schedule": {"epochs": 1.0}})
    report.main([str(tmp_path)])
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.endswith("(schedule.epochs = 1.0, not 30.0)")


def test_a_network_of_no_table_is_listed_too(tmp_path, made_runs, capsys):
    cell = made_runs.cell_of("digits", "hb_net")
    made_runs.make_run(tmp_path, cell, network="admm_net")
    report.main([str(tmp_path)])
    assert re.search("admm_net.*no table has this network", capsys.readouterr().out)


def test_writes_markdown_json_and_picture(digits_runs, tmp_path, capsys):
    out = tmp_path / "new" / "report"
    report.main([str(digits_runs), f"--out={out}"])
    assert (out / "report.md").read_text("utf-8") == capsys.readouterr().out
    summary = json.loads((out / "report.json").read_text("utf-8"))
    digits = summary["tables"][0]
    ours = {entry["network"]: entry["ours"] for entry in digits["entries"]}
    assert ours["resnet"]["last"]["top1_error"]["by_seed"]["4"] == 2.5
    assert ours["resnet"]["versions"] == {"jax": "0.10.2"}
    assert digits["comparisons"][1]["p_value"] == 2 / 2**6
    assert not summary["other_runs"]
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_shows_each_seed_the_mean_and_the_paper(tmp_path, made_runs):
    for seed, last in enumerate((6.0, 6.5, 6.5)):
        cell = made_runs.cell_of("table4", "agd_net40")
        made_runs.make_run(tmp_path, cell, seed, last=last)
    summary = summarize(runs.find([tmp_path]))
    table = next(table for table in summary["tables"] if table["name"] == "table4")
    axis = Figure().subplots()
    figure.draw_panel(axis, [e for e in table["entries"] if e["column"] == "C10"])
    drawn = {line.get_marker(): [] for line in axis.lines}
    for line in axis.lines:
        drawn[line.get_marker()] += list(map(float, line.get_xdata()))
    assert drawn["x"] == [10.05, 10.17, 9.17, 8.66, 7.0, 6.44, 6.05, 5.75]
    assert drawn["o"] == [6.0, 6.5, 6.5]
    assert drawn["|"] == [pytest.approx(19 / 3)]


def test_errors_over_depth_are_curves_with_intervals(tmp_path, made_runs):
    for column, errors in enumerate(((1.0, 2.0), (3.0, 5.0))):
        cell = made_runs.cell_of("digits_depth", "hb_net", column=column)
        for seed, last in enumerate(errors):
            made_runs.make_run(tmp_path, cell, seed, last=last)
    summary = summarize(runs.find([tmp_path]))
    table = next(table for table in summary["tables"] if table["against"])
    [(_, against, entries)] = figure.panels_of(table)
    assert against == "weight layers"
    axis = Figure().subplots()
    figure.draw_curves(axis, entries, against)
    lines = {line.get_label(): line for line in axis.lines}
    assert lines["HB-Net (16)"].get_xydata().tolist() == [[6.0, 1.5], [14.0, 4.0]]
    assert len(lines["Plain (7) (not run)"].get_xdata()) == 0
    [band] = axis.collections
    # Student's t for one degree of freedom is 12.7: half = 12.7 * sd / sqrt 2.
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(
        4 + 12.706, abs=0.01
    )


def test_all_tables_are_drawn_if_none_was_run(tmp_path):
    assert figure.draw(summarize([]), tmp_path / "all.png").stat().st_size > 10_000


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="there is no directory .*nowhere: give"):
        report.main([str(tmp_path / "nowhere")])
