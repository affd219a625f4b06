import json

import numpy as np

from optnet_jax.training import writers


def test_events_hold_scalars_and_histograms(tmp_path):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    writer = writers.RunWriter(tmp_path, 0)
    writer.write_scalars(7, {"train/loss": 0.5})
    writer.write_events(7, {"images_per_second": 9.0})
    writer.write_coefficients(7, {"omega": np.arange(3.0)})
    writer.close()
    assert writer.lines == 1
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


def test_only_process_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    writer = writers.RunWriter(tmp_path, 0)
    writer.write_scalars(1, {"loss": 1.0})
    writer.write_events(1, {"images_per_second": 9.0})
    writer.sync()
    writer.close()
    assert not list(tmp_path.iterdir())
