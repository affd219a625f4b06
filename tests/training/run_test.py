import contextlib

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from optnet_jax.runs import compilation
from optnet_jax.training import loop, run
from optnet_jax.training.run import Compiled


def test_it_compiles_once_and_says_so(tmp_path):
    traced, told = [], []
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    compilation_cache.reset_cache()
    compilation.keep_programs()

    def program():
        def double(x):
            traced.append(x)
            return 2 * x

        return Compiled(jax.jit(double), "doubling", told.append)

    try:
        first, second = program(), program()
        assert first.seconds == 0
        first.compile(jnp.ones(3))
        assert [float(first(jnp.full(3, x))[0]) for x in (1.0, 2.0)] == [2.0, 4.0]
        assert len(traced) == 1
        assert float(second(jnp.ones(3))[0]) == 2.0
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        compilation_cache.reset_cache()
    assert told == [
        f"compiling doubling, or loading it from {tmp_path}",
        f"compiled doubling in {first.seconds:.1f} s",
        f"compiling doubling, or loading it from {tmp_path}",
        f"loaded doubling in {second.seconds:.1f} s",
    ]


@pytest.mark.parametrize(
    ("first", "steps", "expected"),
    [
        (0, 1, ["begin", "end", 0, 1, 2, 3]),
        (1, 2, [0, "begin", 1, "end", 2, 3]),
        (2, 30, [0, 1, "begin", 2, 3, "end"]),
        (1, 0, [0, 1, 2, 3]),
        (4, 2, [0, 1, 2, 3]),
    ],
)
def test_a_profile_covers_its_steps_or_it_is_said_that_there_is_none(
    small, tmp_path, monkeypatch, capsys, first, steps, expected
):
    happened = []

    @contextlib.contextmanager
    def trace(folder):
        assert folder == tmp_path / "profile"
        happened.append("begin")
        yield
        happened.append("end")

    record, compile_ = run.Run._record, Compiled.compile

    def compiling(self, *arguments):
        if self.seconds == 0 and "training" in self._name:
            happened.append("compile")
        compile_(self, *arguments)

    def recording(self, step, sums):
        happened.append(step)
        record(self, step, sums)

    monkeypatch.setattr(run.jax.profiler, "trace", trace)
    monkeypatch.setattr(run.Run, "_record", recording)
    monkeypatch.setattr(Compiled, "compile", compiling)
    # Each step is recorded before the next one, as on a CPU outside of tests.
    monkeypatch.setattr(run, "_is_ready", lambda sums: True)
    profile = {"profile.start_step": first, "profile.steps": steps}
    loop.train(small.small_config(**{"schedule.steps": 4}, **profile), tmp_path)
    assert happened == ["compile", *expected]
    none = "no profile is written: this start runs the steps from 0 to 3" in (
        capsys.readouterr().out
    )
    assert none == (first == 4)
