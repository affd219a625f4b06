import pytest

from optnet_jax.benchmarks import curves, programs
from optnet_jax.benchmarks.programs import Program

SUITES = {suite.name: suite for suite in curves.SUITES}


@pytest.fixture
def compiled(monkeypatch):
    """What would be compiled: (network, state, batch) of each program."""
    found = []

    def compile_(*arguments):
        found.append(arguments)
        return Program(lambda: None, 1.0, 10**6, None)

    monkeypatch.setattr(programs, "training_program", compile_)
    monkeypatch.setattr(programs, "start", lambda network, *rest: rest)
    return found


@pytest.mark.parametrize(
    ("name", "value", "forms", "sizes"),
    [
        ("depth", 14, 4, (2, 2, 2)),
        ("depth", 116, 3, (19, 19, 19)),
        ("dense", 3, 4, (3,)),
    ],
)
def test_every_value_has_its_forms(name, value, forms, sizes, compiled, options):
    suite = SUITES[name]
    rows = suite.run(options(suite, f"--values={value}", "--repeats=1"))
    assert len(rows) == len(compiled) == forms
    assert {row["at"] for row in rows} == {value}
    assert {network.stage_sizes for network, *_ in compiled} == {sizes}
    assert {batch for *_, batch in compiled} == {4}


def test_the_value_is_the_batch(compiled, options):
    suite = SUITES["batch"]
    rows = suite.run(options(suite, "--values=2,3", "--repeats=1"))
    assert len(rows) == 8
    assert [batch for *_, batch in compiled] == [2] * 4 + [3] * 4
    assert {network.stage_sizes for network, *_ in compiled} > {(9, 9, 9)}


def test_reversible_needs_less_memory_than_written_out(options):
    forms = {
        "written out": ("hb_net", {"unroll": True}),
        "reversible": ("hb_net", {"reversible": True}),
    }
    _, _, fields = curves.DEPTH.measure.args
    suite = curves.curves("two", "layers", "14", forms, fields)
    rows = suite.run(options(suite, "--values=14", "--batch=2", "--repeats=1"))
    memory = {row["form"]: row["temporary_bytes"] for row in rows}
    assert memory["reversible"] < memory["written out"]


def test_every_structure_of_table_2_is_timed(monkeypatch, options):
    monkeypatch.setattr(programs, "has_torch", lambda: False)
    monkeypatch.setattr(curves, "TABLE_2", ("gd", "admm"))
    suite = SUITES["simulation"]
    rows = suite.run(options(suite, "--values=2,3", "--batch=2", "--repeats=1"))
    assert [(row["form"], row["at"]) for row in rows] == [
        (form, depth)
        for form in ("ADMM", "ADMM, remat", "GD", "GD, remat")
        for depth in (2, 3)
    ]
    assert all(row["ours"]["median"] > 0 for row in rows)
