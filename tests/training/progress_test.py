import io

import pytest

from optnet_jax.training import progress as progress_lib


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr(progress_lib.time, "monotonic", lambda: now[0])
    return now


def advance(progress, clock, step, seconds):
    clock[0] += seconds
    progress.advance(step)


def test_plain_lines_carry_rate_and_time_left(clock):
    stream = io.StringIO()
    progress = progress_lib.Progress(100, 0, 10, stream)
    advance(progress, clock, 1, 50.0)  # compiles: not counted
    advance(progress, clock, 3, 1.0)
    progress.line("epoch 1")
    assert stream.getvalue() == "epoch 1  20 images/s  ETA 0:48\n"


def test_a_pause_is_not_counted(clock):
    progress = progress_lib.Progress(100, 40, 10, io.StringIO())
    advance(progress, clock, 41, 0.0)
    advance(progress, clock, 42, 1.0)
    progress.pause()
    advance(progress, clock, 43, 500.0)
    advance(progress, clock, 44, 1.0)
    assert progress.images_per_second == 10.0


def test_before_anything_is_measured_a_line_is_plain(clock):
    stream = io.StringIO()
    progress_lib.Progress(10, 0, 1, stream).line("begin")
    assert stream.getvalue() == "begin\n"


def test_a_log_shows_life_every_half_minute(clock):
    progress = progress_lib.Progress(10, 0, 1, io.StringIO())
    assert not progress.due()
    clock[0] = 31.0
    assert progress.due()
    progress.line("still here")
    assert not progress.due()


def test_a_terminal_gets_a_bar_with_rate_and_time_left():
    stream = Terminal()
    progress = progress_lib.Progress(100, 50, 10, stream)
    progress.advance(100)
    progress.line("done")
    progress.close()
    text = stream.getvalue()
    assert "500/1.00k" in text.replace(" ", "")
    assert "1.00k/1.00k" in text
    assert "images/s" in text
    assert "done\n" in text
    assert not progress.due()
