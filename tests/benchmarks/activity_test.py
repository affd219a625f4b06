import threading

from optnet_jax.benchmarks import activity


def test_a_line_when_something_begins_and_after_each_silence():
    clock = activity.Activity()
    assert clock.remind(100.0) is None
    assert clock.begin("resnet56: compile", 100.0) == "resnet56: compile"
    lines = {now: clock.remind(100 + now) for now in (1, 2.9, 3, 4, 5.9, 6.1, 9.2)}
    assert {now: line for now, line in lines.items() if line} == {
        3: "resnet56: compile: 3 s",
        6.1: "resnet56: compile: 6 s",
        9.2: "resnet56: compile: 9 s",
    }
    clock.begin("resnet56: train", 110.0)
    assert clock.remind(112.0) is None


def test_what_is_silent_is_said_while_the_context_lasts(monkeypatch):
    monkeypatch.setattr(activity, "PATIENCE", 0.0)
    reminded = threading.Event()

    def note(line):
        if line.startswith("compile: "):
            reminded.set()

    monkeypatch.setattr(activity, "_print", note)
    with activity.shown():
        activity.begin("compile")
        assert reminded.wait(60)
