"""The report over cells whose numbers are known."""

import json

import pytest
from optnet_jax.configs import table2 as config_file

from optnet_jax.studies.table2 import report as reports
from optnet_jax.studies.table2.contenders import PAPER, contender

M = (1.001, 0.999)
CHECKPOINTS = (100, 1000, 2000)
# Excess over M of each structure at the checkpoints.
EXCESS = {
    "gd": (0.05, 0.00644, 0.003),
    "hb": (0.06, 0.00500, 0.002),
    "agd": (0.04, 0.00270, 0.0025),
    "agd2": (0.01, -0.0001, -0.0001),
    "agd_readout": (0.01, -0.00005, -0.0001),
}


def make_cell(structure, depth, excess):
    return {
        "structure": structure,
        "label": contender(structure).label,
        "depth": depth,
        "seeds": [0, 1],
        "checkpoints": list(CHECKPOINTS),
        "mse": [[m + e for e in excess] for m in M],
        "output_power": [[e + 0.0001 for e in excess] for _ in M],
        "output_spread": [[1e-6 for _ in excess] for _ in M],
        "target_power": list(M),
        "constant_mse": [m - 0.0001 for m in M],
        "wall_seconds": 1.5,
    }


@pytest.fixture
def report():
    config = config_file.get_config()
    config.seeds, config.depths = (0, 1), (10,)
    config.structures = ("gd", "hb", "agd", "agd2")
    config.readout = {"structures": ("agd_readout",), "depths": (10,)}
    config.timing.checkpoints = CHECKPOINTS
    cells = [make_cell(name, 10, excess) for name, excess in EXCESS.items()]
    return reports.collect(config, cells)


def rows(text, first):
    """The cells of the table rows that start so."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {first} ")]
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines]


def test_final_is_taken_at_the_steps_of_the_table(report):
    final = reports.find(report, "agd", 10)["final"]
    assert final["mse"]["mean"] == pytest.approx(1.0027)
    assert final["mse"]["sd"] == pytest.approx(0.002 / 2**0.5)
    assert final["excess"]["mean"] == pytest.approx(0.0027)
    assert final["excess"]["sd"] == pytest.approx(0, abs=1e-12)
    assert json.loads(json.dumps(report)) == report


def test_ours_stands_over_the_papers(report):
    lines = reports.comparison_table(report).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| GD (7)"))
    block = [line.split("|")[3].strip() for line in lines[at : at + 4]]
    assert block == ["1.00644 ± 0.00141", "0.00644 ± 0.00000", "1.00644", "+0.00000"]
    assert "-0.00755" in lines[-1]  # AGD2: 1 - 0.0001 - 1.00745


def test_a_depth_that_the_paper_has_not_is_left_open(report):
    for cell in report["cells"]:
        cell["depth"] = 12
    report["config"]["depths"] = [12]
    lines = reports.comparison_table(report).splitlines()
    assert lines[-1].split("|")[3].strip() == lines[-2].split("|")[3].strip() == "-"


def test_readout_ablation_lists_only_what_was_trained(report):
    table = reports.readout_table(report)
    assert rows(table, "AGD, AGD2's read-out")[0][3].startswith("-0.00005")
    assert not rows(table, "GD, AGD2's read-out")
    text = reports.markdown(report)
    assert "differs from AGD2 by 5.0e-05 at most" in text
    assert "the excess is mean out² to within 1.0e-04" in text


def test_the_order_is_told_at_every_time(report):
    table = reports.timing_table(report)
    (before, at, after) = (rows(table, t)[0] for t in ("10", "100", "200"))
    assert before[-1] == "agd2 < agd < gd < hb"
    assert at[-1] == "agd2 < agd < hb < gd"
    assert after[-1] == "agd2 < hb < agd < gd"
    assert at[2] == "+0.00644"


def test_who_overtakes_whom(report):
    text = reports.markdown(report)
    said = [line for line in text.splitlines() if "overtakes" in line]
    assert said == [
        "- between 10 and 100: hb overtakes gd",
        "- between 100 and 200: hb overtakes agd",
    ]


def test_the_settings_are_told(report):
    text = reports.markdown(report)
    assert "10,000 pairs" in text
    assert "rate 0.1 (lower rate: 0.01), batch 200, 1,000 steps" in text
    assert "standard deviation is 0.0014" in text
    assert "seed 0: 1.00100 (-0.00010)" in text
    report["config"]["batch_size"] = 10_000
    assert "full batch" in reports.markdown(report)


def test_the_papers_table_is_in_the_json(report):
    assert report["paper"]["AGD2"]["40"] == PAPER["AGD2"][40] == 0.99964
