import argparse

import pytest

from optnet_jax.benchmarks import table2


@pytest.fixture
def _two_structures(monkeypatch):
    config = table2.table2.get_config("full")
    config.structures = ("admm_shared", "gd")
    monkeypatch.setattr(table2.table2, "get_config", {"full": config}.get)


@pytest.mark.usefixtures("_two_structures")
def test_every_cell_of_the_table_has_a_cost():
    options = argparse.Namespace(steps=20, repeats=1, samples=200, depths="2")
    rows = table2.SUITE.run(options)
    assert [row["structure"] for row in rows] == ["admm_shared", "gd"]
    for row in rows:
        assert row["cell_seconds"] == 1000 * row["step"]["median"]
        assert row["seeds"] == 3
        row["cell_seconds"] = 60.0
    text = table2.SUITE.markdown(rows)
    # ADMM's other reading is the one of the five.
    assert "one seed: 1.00 minutes of one core, 0.500 on two" in text
    assert "All 2 rows with the config's 3 seeds: 0.100 hours" in text
