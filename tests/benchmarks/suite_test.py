import argparse
import threading

import pytest

from optnet_jax.benchmarks import suite
from optnet_jax.benchmarks.suite import Column, number, whole_numbers


def curves(case, options):
    row = {"at": case, "ours": {"median": 0.012 * case}, "compile_seconds": 2.0}
    return [
        {"form": "plain", "temporary_bytes": 10**6} | row,
        {"form": "plain, remat", "temporary_bytes": None} | row,
    ]


COLUMNS = (Column("form", "form"), Column("layers", "at"), suite.TIME, suite.MEMORY)
OPTIONS = {"values": {"type": whole_numbers, "default": "2,1"}}
CURVES = suite.Suite(
    "fake", "something", "values", curves, COLUMNS, OPTIONS, axis="layers"
)


@pytest.fixture
def rows():
    parser = argparse.ArgumentParser()
    CURVES.add_options(parser)
    return CURVES.run(parser.parse_args([]))


def test_curves_are_sorted_and_laid_out(rows):
    lines = [" ".join(line.split()) for line in CURVES.markdown(rows).splitlines()]
    assert lines[0] == "| form | layers | ms a step | temporaries (MB) |"
    assert lines[2:] == [
        "| plain | 1 | 12.0 | 1.00 |",
        "| plain | 2 | 24.0 | 1.00 |",
        "| plain, remat | 1 | 12.0 | - |",
        "| plain, remat | 2 | 24.0 | - |",
    ]


def test_what_is_not_known_is_a_gap_in_the_figure(tmp_path, rows):
    file = tmp_path / "figure.png"
    CURVES.draw(rows, file)
    assert file.stat().st_size > 10_000


def test_a_spread_is_shown_with_its_quartiles():
    column = Column("ratio", "ratio", quartiles=True, missing="not run")
    spread = {"median": 1.0, "low": 0.875, "high": 1.5, "repeats": 3}
    assert column.cell({"ratio": spread}) == "1.00 (0.88-1.50)"
    large = {"median": 123.4, "low": 115.0, "high": 176.0, "repeats": 3}
    assert column.cell({"ratio": large}) == "123 (115-176)"
    assert column.cell({}) == "not run"


def test_three_digits_are_shown():
    values = (0.5, 12.345, 99.96, 1234.5)
    assert [number(v) for v in values] == ["0.500", "12.3", "100.", "1234"]


def test_lists_of_numbers_are_read():
    assert whole_numbers("8,16") == (8, 16)
    for text in ("", "8,", "0", "-1", "8.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="whole number above 0"):
            whole_numbers(text)


def test_networks_are_known():
    assert suite.network_name("resnet56") == "resnet56"
    with pytest.raises(argparse.ArgumentTypeError, match="did you mean 'resnet56'"):
        suite.network_name("resnet57")


def test_what_lasts_is_said_while_the_context_does(monkeypatch):
    reminded = threading.Event()

    def note(line, **_):
        if line.startswith("compile: "):
            reminded.set()

    monkeypatch.setattr(suite, "PATIENCE", 0.0)
    monkeypatch.setattr("builtins.print", note)
    with suite.reminders():
        suite.begin("compile")
        assert reminded.wait(60)
