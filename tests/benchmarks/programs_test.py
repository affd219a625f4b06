import jax.numpy as jnp

from optnet_jax.benchmarks import programs


def test_each_run_goes_on_from_the_last_and_leaves_the_first_state():
    state = jnp.zeros(3)
    program = programs.carried_program(lambda s, x: (s + x, s.sum()), state, 2.0)
    results = [float(program.run()[1]) for _ in range(3)]
    assert results == [0.0, 6.0, 12.0]
    assert state.tolist() == [0.0, 0.0, 0.0]
    assert program.compile_seconds > 0
