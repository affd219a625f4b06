"""The report over cells whose numbers are known."""

import json

import pytest

from optnet_jax.studies.table2 import report as reports
from optnet_jax.studies.table2 import tables
from optnet_jax.studies.table2.contenders import PAPER


def test_final_is_taken_at_the_steps_of_the_table(report):
    final = tables.find(report, "agd", 10)["final"]
    assert final["mse"]["mean"] == pytest.approx(1.0027)
    assert final["mse"]["sd"] == pytest.approx(0.002 / 2**0.5)
    assert final["excess"]["mean"] == pytest.approx(0.0027)
    assert final["excess"]["sd"] == pytest.approx(0, abs=1e-12)
    assert json.loads(json.dumps(report)) == report


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


def test_the_readout_is_explained(report):
    text = reports.markdown(report)
    assert "differs from AGD2 by 5.0e-05 at most" in text
    assert "the excess is mean out² to within 1.0e-04" in text


def test_the_cost_is_told(report):
    text = reports.markdown(report)
    assert "of which 0.5 in the mean compile it" in text
    assert tables.cost_table(report) in text
