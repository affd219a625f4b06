import pytest

from optnet_jax.benchmarks import depth, programs, timing
from optnet_jax.benchmarks.programs import Program

DEPTH, SIMULATION = depth.SUITES


@pytest.mark.parametrize(("layers", "forms"), [(14, 4), (116, 3)])
def test_every_depth_has_its_forms(layers, forms, monkeypatch, options):
    compiled = []

    def compile_(*arguments):
        compiled.append(arguments)
        return Program(lambda: None, 1.0, 10**6, None)

    monkeypatch.setattr(programs, "training_program", compile_)
    monkeypatch.setattr(programs, "start", lambda network, *rest: rest)
    rows = DEPTH.run(options(DEPTH, f"--values={layers}", "--repeats=1"))
    assert len(rows) == len(compiled) == forms
    assert {row["at"] for row in rows} == {layers}
    assert {network.stage_sizes for network, *_ in compiled} == {(layers // 6,) * 3}
    assert {batch for *_, batch in compiled} == {4}


@pytest.mark.long  # structures/reversible_test.py holds the memory of any depth
def test_reversible_needs_less_memory_than_written_out(monkeypatch, options):
    forms = {name: depth.FORMS[name] for name in ("written out", "reversible")}
    monkeypatch.setattr(depth, "FORMS", forms)
    rows = DEPTH.run(options(DEPTH, "--values=14", "--batch=2", "--repeats=1"))
    memory = {row["form"]: row["temporary_bytes"] for row in rows}
    assert memory["reversible"] < memory["written out"]


def test_every_structure_of_table_2_is_timed(monkeypatch, options):
    monkeypatch.setattr(timing, "has_torch", lambda: False)
    monkeypatch.setattr(depth, "TABLE_2", ("gd", "admm"))
    small = ("--values=2,3", "--batch=2", "--repeats=1")
    rows = SIMULATION.run(options(SIMULATION, *small))
    assert [(row["form"], row["at"]) for row in rows] == [
        (form, layers)
        for layers in (2, 3)
        for form in ("GD", "GD, remat", "ADMM", "ADMM, remat")
    ]
    assert all(row["ours"]["median"] > 0 for row in rows)
