import errno
import io
import sys

import pytest

from optnet_jax.runs import program
from optnet_jax.runs import progress as progress_lib


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Broken(io.StringIO):
    """A screen whose reader has gone away."""

    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal

    def write(self, text):
        raise OSError(errno.EIO, "Input/output error")


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr(progress_lib.time, "monotonic", lambda: now[0])
    return now


def advance(progress, clock, step, seconds):
    clock[0] += seconds
    progress.advance(step, 0.25)


def test_plain_lines_carry_rate_and_time_left(clock, capsys):
    progress = progress_lib.Progress(100, 0, 10, 200)
    clock[0] += 50.0  # compiles: not counted
    progress.resume()
    advance(progress, clock, 1, 0.5)
    advance(progress, clock, 4, 1.5)
    progress.line("epoch 1")
    assert capsys.readouterr().out == "epoch 1  20 images/s  ETA 0:48 and evaluation\n"


def test_evaluations_are_part_of_the_time_left(clock, capsys):
    progress = progress_lib.Progress(100, 0, 10, 40)
    progress.resume()
    advance(progress, clock, 40, 40.0)
    progress.pause()
    clock[0] += 1000.0  # of which 990 are compilation
    progress.evaluated(10.0)
    progress.line("")
    # 60 steps, and the evaluations after 80 and 100.
    assert capsys.readouterr().out == "  10 images/s  ETA 1:20\n"
    progress.resume()
    advance(progress, clock, 100, 60.0)
    progress.pause()
    progress.line("")
    assert capsys.readouterr().out.endswith("ETA 0:00\n")


def test_a_pause_is_not_counted(clock):
    progress = progress_lib.Progress(100, 40, 10, 4)
    progress.resume()
    advance(progress, clock, 42, 2.0)
    progress.pause()
    clock[0] += 500.0
    assert progress.images_per_second == 10.0
    progress.resume()
    advance(progress, clock, 44, 2.0)
    progress.pause()
    assert progress.images_per_second == 10.0


def test_two_steps_an_epoch_have_the_rate_of_the_work(clock):
    # Both are fetched only after the second is done: their distance says nothing.
    progress = progress_lib.Progress(4, 0, 32, 2)
    for first in (0, 2):
        progress.resume()
        advance(progress, clock, first + 1, 8.0)
        advance(progress, clock, first + 2, 0.0001)
        progress.pause()
    assert progress.images_per_second == pytest.approx(8, rel=1e-4)


def test_before_anything_is_measured_a_line_is_plain(clock, capsys):
    progress = progress_lib.Progress(10, 0, 1, 1)
    progress.line("begin")
    progress.resume()
    clock[0] += 1.0
    progress.line("still nothing is done")
    assert capsys.readouterr().out == "begin\nstill nothing is done\n"
    assert progress.images_per_second is None


def test_a_log_shows_life_every_half_minute(clock):
    progress = progress_lib.Progress(10, 0, 1, 1)
    assert not progress.due()
    clock[0] = 31.0
    assert progress.due()
    progress.line("still here")
    assert not progress.due()


def test_a_terminal_gets_a_bar_with_loss_rate_and_time_left(clock, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream := Terminal())
    progress = progress_lib.Progress(100, 50, 10, 50)
    progress.resume()
    advance(progress, clock, 100, 25.0)
    progress.evaluated(1.0)
    progress.line("done")
    progress.close()
    text = stream.getvalue()
    assert "500/1.00k" in text.replace(" ", "")
    assert "1.00k/1.00k" in text
    assert "loss 0.2500, 20 images/s, ETA 0:00" in text
    assert text.count("images/s") == text.count(" 20 images/s")  # no other rate
    assert "done\n" in text
    assert not progress.due()


@pytest.mark.parametrize("how", ["broken", "hung up", "closed", "none"])
def test_a_screen_that_fails_ends_no_run_and_is_said_once(how, monkeypatch, caplog):
    stream = {
        "broken": Broken(terminal=False),
        "hung up": Broken(terminal=True),
        "closed": io.StringIO(),
        "none": None,
    }[how]
    if how == "closed":
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(program.logging, "_log_counter_per_token", {})
    for _ in range(2):
        progress_lib.say("one line")
        progress = progress_lib.Progress(10, 0, 10, 10)
        progress.resume()
        progress.advance(1, 0.5)
        progress.line("another")
        progress.close()
    said = caplog.text.count("a line could not be printed")
    assert said == (0 if how == "none" else 1)
