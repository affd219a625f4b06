import argparse

import pytest

from optnet_jax.benchmarks import suite
from optnet_jax.benchmarks.suite import Column, whole_numbers


def measured(case, options):
    row = {"at": case, "ours": {"median": 0.012 * case}, "compile_seconds": 2.0}
    return [
        {"form": "plain", "temporary_bytes": 10**6} | row,
        {"form": "remat", "temporary_bytes": None} | row,
    ]


COLUMNS = (Column("form", "form"), Column("layers", "at"), suite.TIME, suite.MEMORY)
OPTIONS = {"values": {"type": whole_numbers, "default": "2,1"}}
FAKE = suite.Suite("fake", "something", "values", measured, COLUMNS, OPTIONS)


def test_every_case_is_measured_and_laid_out(options):
    rows = FAKE.run(options(FAKE))
    lines = [" ".join(line.split()) for line in FAKE.markdown(rows).splitlines()]
    assert lines[0] == "| form | layers | ms a step | temporaries (MB) |"
    assert lines[2:] == [
        "| plain | 2 | 24.0 | 1.00 |",
        "| remat | 2 | 24.0 | - |",
        "| plain | 1 | 12.0 | 1.00 |",
        "| remat | 1 | 12.0 | - |",
    ]


def test_a_spread_is_shown_with_its_quartiles():
    column = Column("ratio", "ratio", quartiles=True, missing="not run")
    spread = {"median": 1.0, "low": 0.875, "high": 1.5, "repeats": 3}
    assert column.cell({"ratio": spread}) == "1.00 (0.88-1.50)"
    large = {"median": 123.4, "low": 115.0, "high": 176.0, "repeats": 3}
    assert column.cell({"ratio": large}) == "123 (115-176)"
    assert column.cell({}) == "not run"


def test_lists_of_numbers_are_read():
    assert whole_numbers("8,16") == (8, 16)
    for text in ("", "8,", "0", "-1", "8.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="whole number above 0"):
            whole_numbers(text)
