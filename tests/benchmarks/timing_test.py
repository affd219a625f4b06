import functools
import itertools
import os
import time

import pytest

from optnet_jax.benchmarks.timing import other_process, ratios, take_turns, timed
from optnet_jax.errors import InputError


def test_functions_take_turns_and_warm_up_is_left_out():
    calls, now = [], itertools.count()

    def clock():
        return float(next(now))

    functions = {
        name: timed(functools.partial(calls.append, name), clock) for name in "ab"
    }
    times = take_turns(functions, repeats=2, warm_up=1)
    assert calls == ["a", "b"] * 3
    assert times == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_ratios_are_of_rounds():
    found = ratios([2.0, 20.0, 9.0], [1.0, 10.0, 3.0])
    assert found == {"median": 2.0, "low": 2.0, "high": 2.5, "repeats": 3}
    assert ratios([4.0], [2.0])["high"] == 2.0


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
