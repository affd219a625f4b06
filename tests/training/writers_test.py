import json

import numpy as np
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from optnet_jax.training import writers


def test_events_hold_scalars_and_histograms(tmp_path):
    writer = writers.RunWriter(tmp_path, 0, {}, learned=True)
    writer.write_scalars(7, {"train/loss": 0.5})
    writer.write_events(7, {"images_per_second": 9.0})
    writer.write_coefficients(7, 0.5, {"omega": np.arange(3.0)})
    writer.close()
    assert writer.lines == {"metrics": 1, "coefficients": 1}
    (file,) = tmp_path.glob("events.out.tfevents.*")
    tags = {
        value.tag: event.step
        for event in EventFileLoader(str(file)).Load()
        for value in event.summary.value
    }
    assert tags == {
        "train/loss": 7,
        "images_per_second": 7,
        "omega": 7,
        "omega (mean)": 7,
    }
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 7,
        "train/loss": 0.5,
    }


def test_of_an_earlier_run_that_learned_coefficients_none_are_left(tmp_path):
    writer = writers.RunWriter(tmp_path, 0, {}, learned=True)
    writer.write_coefficients(7, 0.5, {"omega": np.arange(3.0)})
    writer.close()
    assert len(list(tmp_path.glob("coefficients.*"))) == 2
    writers.RunWriter(tmp_path, 0, {}).close()
    assert not list(tmp_path.glob("coefficients.*"))


def test_only_process_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    writer = writers.RunWriter(tmp_path, 0, {}, learned=True)
    writer.write_scalars(1, {"loss": 1.0})
    writer.write_events(1, {"images_per_second": 9.0})
    writer.write_coefficients(1, 0.5, {"omega": np.arange(3.0)})
    writer.sync()
    writer.close()
    assert not list(tmp_path.iterdir())


def write(workdir, start_step, steps):
    writer = writers.RunWriter(workdir, start_step, {})
    for step in steps:
        writer.write_scalars(step, {"loss": step / 8})
    writer.close()


def steps_in(workdir):
    """What TensorBoard shows."""
    shown = plugin_event_accumulator.EventAccumulator(str(workdir)).Reload()
    return [event.step for event in shown.Tensors("loss")]


def test_each_step_is_shown_once_after_a_kill(tmp_path, monkeypatch):
    # However soon it starts again, and were the clock put back: files are read by name.
    clock = iter([99.0, 98.0])
    monkeypatch.setattr(writers.time, "time", lambda: next(clock, 98.0))
    write(tmp_path, 0, (1, 2, 3, 4))
    (file,) = tmp_path.glob("events.*")
    file.write_bytes(file.read_bytes()[:-5])  # the kill came within the last record
    write(tmp_path, 2, (3, 4, 5))
    assert steps_in(tmp_path) == [1, 2, 3, 4, 5]


def test_of_a_run_that_starts_afresh_nothing_older_is_shown(tmp_path):
    write(tmp_path, 0, (1, 2))
    write(tmp_path, 0, (1,))
    assert steps_in(tmp_path) == [1]
