import jax
import jax.numpy as jnp

from optnet_jax.training.compiled import Compiled


def test_it_compiles_once_and_says_so():
    traced, told = [], []

    def double(x):
        traced.append(x)
        return 2 * x

    program = Compiled(jax.jit(double), "doubling", told.append)
    assert program.seconds == 0
    program.compile(jnp.ones(3))
    assert told == [f"compiled doubling in {program.seconds:.1f} s"]
    assert [float(program(jnp.full(3, x))[0]) for x in (1.0, 2.0)] == [2.0, 4.0]
    assert len(traced) == len(told) == 1
