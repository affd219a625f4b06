import jax.numpy as jnp

from optnet_jax.benchmarks import programs
from optnet_jax.benchmarks.programs import Program


def test_each_run_goes_on_from_the_last_and_leaves_the_first_state():
    state = jnp.zeros(3)
    program = programs.carried_program(lambda s, x: (s + x, s.sum()), state, 2.0)
    results = [float(program.run()[1]) for _ in range(3)]
    assert results == [0.0, 6.0, 12.0]
    assert state.tolist() == [0.0, 0.0, 0.0]
    assert program.compile_seconds > 0


def test_pytorch_takes_turns_with_the_programs_that_it_has(monkeypatch):
    monkeypatch.setattr(programs, "timed", lambda run: run)
    made = {name: Program(lambda: 0.5, 1.0, None, None) for name in ("first", "second")}
    rows = programs.time_programs(made, 3, {"first": lambda: 2.0})
    assert rows["first"]["torch"]["median"] == 2.0
    assert rows["first"]["ratio"]["median"] == 4.0
    assert rows["second"]["ours"] == {
        "median": 0.5,
        "low": 0.5,
        "high": 0.5,
        "repeats": 3,
    }
    assert "ratio" not in rows["second"]


def test_without_pytorch_there_is_no_process(monkeypatch):
    monkeypatch.setattr(programs, "has_torch", lambda: False)
    with programs.torch_process("network_runs", lambda: 1 / 0) as runs:
        assert runs == {}
