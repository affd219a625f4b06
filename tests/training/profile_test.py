import pytest

from optnet_jax.configuration.train import Profile
from optnet_jax.errors import InputError
from optnet_jax.training import profile


@pytest.fixture
def calls(monkeypatch):
    calls = []
    monkeypatch.setattr(profile.jax.profiler, "start_trace", calls.append)
    monkeypatch.setattr(
        profile.jax.profiler, "stop_trace", lambda: calls.append("stop")
    )
    return calls


def run(window, steps):
    for step in steps:
        window.before(step)
        window.after(step, None)


def make(start_step, steps, path):
    config = Profile(start_step=start_step, steps=steps)
    return profile.ProfilerWindow(config, path)


def test_the_window_covers_its_steps(calls, tmp_path):
    window = make(2, 3, tmp_path)
    run(window, range(4))
    assert calls == [str(tmp_path)]
    run(window, range(4, 9))
    assert calls == [str(tmp_path), "stop"]


def test_a_run_that_ends_within_the_window_closes_it(calls, tmp_path):
    window = make(2, 30, tmp_path)
    run(window, range(4))
    window.close()
    window.close()
    assert calls == [str(tmp_path), "stop"]


def test_no_steps_is_off(calls, tmp_path):
    run(make(2, 0, tmp_path), range(9))
    assert calls == []


def test_negative_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match="steps=-1"):
        make(2, -1, tmp_path)
