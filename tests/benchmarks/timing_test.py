import functools
import itertools
import os
import time

import pytest

from optnet_jax.benchmarks import timing
from optnet_jax.benchmarks.programs import Program
from optnet_jax.benchmarks.timing import other_process
from optnet_jax.errors import InputError


def test_pytorch_takes_turns_with_the_programs_that_it_has(monkeypatch):
    now, calls = itertools.count(), []
    monkeypatch.setattr(timing, "default_clock", lambda: lambda: next(now) ** 2.0)
    made = {
        name: Program(functools.partial(calls.append, name), 9.0, 5, None)
        for name in ("first", "second")
    }
    theirs = iter([100.0, 50.0, 34.0, 100.0])  # the first two rounds do not count

    def torch():
        calls.append("torch")
        return next(theirs)

    rows = timing.time_programs(made, 2, {"first": torch})
    assert calls == ["first", "torch", "second"] * 4
    assert rows["second"] == {
        "ours": {"median": 25.0, "low": 23.0, "high": 27.0, "repeats": 2},
        "compile_seconds": 9.0,
        "temporary_bytes": 5,
        "bytes_accessed": None,
    }
    first = rows["first"]
    assert (first["ours"]["median"], first["torch"]["median"]) == (21.0, 67.0)
    # 34 / 17 and 100 / 25: of each round.
    assert first["ratio"] == {"median": 3.0, "low": 2.5, "high": 3.5, "repeats": 2}


def test_without_pytorch_there_is_no_process(monkeypatch):
    monkeypatch.setattr(timing, "has_torch", lambda: False)
    with timing.torch_process("network_runs", lambda: 1 / 0) as runs:
        assert runs == {}


def test_another_process_runs_what_it_is_asked_and_its_end_is_told():
    functions = {"now": time.time, "end": functools.partial(os._exit, 3)}
    with other_process("builtins:dict", functions) as runs:
        assert set(runs) == {"now", "end"}
        assert runs["now"]() >= 0
        with pytest.raises(InputError, match="the other process ended"):
            runs["end"]()
        with pytest.raises(InputError, match="the other process ended"):
            runs["now"]()


def test_bad_input_in_another_process_is_ours():
    other = other_process("optnet_jax.networks:create", "resnet57")
    with pytest.raises(InputError, match="unknown network 'resnet57'"), other:
        pass
