import functools
import itertools

from optnet_jax.benchmarks.timing import Spread, ratios, take_turns, timed


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
    assert ratios([2.0, 20.0, 9.0], [1.0, 10.0, 3.0]) == Spread(2.0, 2.0, 2.5, 3)
    assert Spread.of([4.0]) == Spread(4.0, 4.0, 4.0, 1)
