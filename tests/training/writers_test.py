import json

import numpy as np
import pytest

from optnet_jax.training import writers


def test_lines_after_the_resumed_step_are_dropped(tmp_path):
    file = tmp_path / "metrics.jsonl"
    first = writers.JsonLinesWriter(file)
    for step in (1, 2, 3):
        first.write_scalars(step, {"loss": np.float32(step) / 4})
    first.close()
    with file.open("a") as stream:
        stream.write('{"step": 4, "lo')  # cut short by a kill
    second = writers.JsonLinesWriter(file, start_step=2)
    second.write_scalars(3, {"loss": 9})
    second.close()
    assert writers.read_json_lines(file) == [
        {"step": 1, "loss": 0.25},
        {"step": 2, "loss": 0.5},
        {"step": 3, "loss": 9.0},
    ]


def test_a_run_that_starts_afresh_starts_a_fresh_file(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "loss": 1.0}\n')
    writers.JsonLinesWriter(file, start_step=0).close()
    assert file.read_text() == ""


def test_events_hold_scalars_and_histograms(tmp_path):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    writer = writers.create_writer(tmp_path, 0)
    writer.write_scalars(7, {"train/loss": 0.5})
    writer.write_histograms(7, {"alpha": np.arange(3.0)})
    writer.close()
    (file,) = tmp_path.glob("events.out.tfevents.*")
    tags = {
        value.tag: event.step
        for event in EventFileLoader(str(file)).Load()
        for value in event.summary.value
    }
    assert tags == {"train/loss": 7, "alpha": 7}
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 7,
        "train/loss": 0.5,
    }


def test_only_process_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    writer = writers.create_writer(tmp_path, 0)
    writer.write_scalars(1, {"loss": 1.0})
    writer.close()
    assert not list(tmp_path.iterdir())


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(json.JSONDecodeError):
        writers.read_json_lines(file)
