import contextlib

import jax
import jax.numpy as jnp
import pytest

from optnet_jax.training import loop, run
from optnet_jax.training.run import Compiled


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


@pytest.mark.parametrize(
    ("first", "steps", "expected"),
    [
        (1, 2, [0, "begin", 1, "end", 2, 3]),
        (2, 30, [0, 1, "begin", 2, 3, "end"]),
        (1, 0, [0, 1, 2, 3]),
    ],
)
def test_a_profile_covers_its_steps(
    small, tmp_path, monkeypatch, first, steps, expected
):
    happened = []

    @contextlib.contextmanager
    def trace(folder):
        assert folder == tmp_path / "profile"
        happened.append("begin")
        yield
        happened.append("end")

    record = run.Run._record

    def recording(self, step, sums):
        happened.append(step)
        record(self, step, sums)

    monkeypatch.setattr(run.jax.profiler, "trace", trace)
    monkeypatch.setattr(run.Run, "_record", recording)
    # Each step is recorded before the next one, as on a CPU outside of tests.
    monkeypatch.setattr(run, "_is_ready", lambda sums: True)
    profile = {"profile.start_step": first, "profile.steps": steps}
    loop.train(small.small_config(**{"schedule.steps": 4}, **profile), tmp_path)
    assert happened == expected
