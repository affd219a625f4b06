import os

import numpy as np
import pytest

from optnet_jax.runs import json_lines
from optnet_jax.runs.json_lines import JsonLines


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(
        "absl.logging.warning", lambda text, *args: lines.append(text % args)
    )
    return lines


def write(file, steps):
    lines = JsonLines(file)
    for step in steps:
        lines.append({"step": step, "loss": step / 4})
    lines.close()


def test_rows_after_the_resumed_step_are_dropped(tmp_path, said):
    file = tmp_path / "metrics.jsonl"
    write(file, (1, 2, 3))
    with file.open("a") as stream:
        stream.write('{"step": 4, "lo')  # cut short by a kill
    second = JsonLines(file, start_step=2, expected=2)
    assert second.lines == 2
    second.append({"step": 3, "loss": 9.0})
    second.close()
    assert json_lines.read(file) == [
        {"step": 1, "loss": 0.25},
        {"step": 2, "loss": 0.5},
        {"step": 3, "loss": 9.0},
    ]
    assert not said


def test_a_resume_never_leaves_less_than_there_was(tmp_path, monkeypatch):
    """Killed while the file is made ready, it is the old one or the new one."""
    file = tmp_path / "metrics.jsonl"
    write(file, (1, 2, 3))
    before = file.read_bytes()

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr("pathlib.Path.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        JsonLines(file, start_step=2)
    assert file.read_bytes() == before
    # Nothing to drop: nothing is rewritten.
    JsonLines(file, start_step=3).close()
    assert file.read_bytes() == before
    monkeypatch.undo()
    JsonLines(file).close()  # a run that starts afresh
    assert file.read_text() == ""


@pytest.mark.parametrize(
    "damage",
    [
        b"\0" * 50,
        b"not json",
        b"[1, 2]",
        b'{"loss": 1.0}',
        b'{"step": true}',
        b'{"step": 2',
        b"\xff\xfe{",
        b"[" * 100000,
        b"9" * 5000,
        b"",
    ],
)
def test_a_line_that_is_none_of_ours_is_left_out_and_said_once(tmp_path, said, damage):
    file = tmp_path / "metrics.jsonl"
    write(file, (1, 2))
    first, second, _ = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([first, damage, second, b""]))
    lines = JsonLines(file, start_step=2, expected=2)
    lines.close()
    assert len(said) == 1
    assert "metrics.jsonl: 1 of 3 lines are damaged and left out" in said[0]
    assert [row["step"] for row in json_lines.read(file)] == [1, 2]
    assert len(said) == 1


def test_a_shortened_file_is_noticed(tmp_path, said):
    file = tmp_path / "metrics.jsonl"
    write(file, (1, 2, 3))
    file.write_bytes(b"".join(file.read_bytes().splitlines(True)[:1]))
    JsonLines(file, start_step=3, expected=3).close()
    assert len(said) == 1
    assert "metrics.jsonl has 1 of 3 rows up to step 3" in said[0]


def test_a_series_holds_numbers_only():
    rows = [
        {"step": 1, "epoch": 1.0, "loss": 2},
        {"step": 2, "loss": 3.0},
        {"step": 3, "epoch": "three", "loss": 3.0},
        {"step": 4, "epoch": 4.0, "loss": None},
        {"step": 4, "epoch": 4.0, "loss": 10**400},
        {"step": 5, "epoch": 5.0, "loss": 1.5},
    ]
    epochs, values = json_lines.series(rows, "loss")
    np.testing.assert_array_equal(epochs, [1, 5])
    np.testing.assert_array_equal(values, [2, 1.5])
    assert [part.shape for part in json_lines.series(rows, "error")] == [(0,), (0,)]
