import json
import os

import numpy as np
import pytest
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
    return sorted(
        event.step
        for file in workdir.glob("events.out.tfevents.*")
        for event in EventFileLoader(str(file)).Load()
        if event.HasField("summary")
    )


def test_each_step_is_there_once_after_a_kill(tmp_path):
    write(tmp_path, 0, (1, 2, 3, 4))
    (file,) = tmp_path.glob("events.*")
    file.write_bytes(file.read_bytes()[:-5])  # the kill came within the last record
    write(tmp_path, 2, (3, 4, 5))
    assert steps_in(tmp_path) == [1, 2, 3, 4, 5]


def test_what_is_kept_is_kept_as_it_was(tmp_path):
    write(tmp_path, 0, (1, 2))
    (file,) = tmp_path.glob("events.*")
    before = file.read_bytes()
    writers.drop_later_events(tmp_path, 2)
    assert file.read_bytes() == before
    assert list(tmp_path.glob("*events*")) == [file]


def test_a_run_that_starts_afresh_starts_fresh_files(tmp_path):
    write(tmp_path, 0, (1, 2))
    write(tmp_path, 0, (1,))
    assert steps_in(tmp_path) == [1]


def cut(content):
    return content[: len(content) // 2]


DAMAGE = {
    "empty": lambda content: b"",
    "NUL": lambda content: bytes(len(content)),
    "text": lambda content: b"to be or not to be\n" * 99,
    "cut": cut,
    "its second half NUL": lambda content: cut(content).ljust(len(content), b"\0"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_of_a_damaged_file_the_sound_part_stays_and_the_run_goes_on(tmp_path, name):
    write(tmp_path, 0, (1, 2, 3, 4))
    (file,) = tmp_path.glob("events.*")
    damaged = file.rename(tmp_path / "events.out.tfevents.1.host")
    damaged.write_bytes(DAMAGE[name](damaged.read_bytes()))
    write(tmp_path, 4, (5,))
    if name not in ("cut", "its second half NUL"):
        damaged.unlink()
        assert steps_in(tmp_path) == [5]
        return
    found = steps_in(tmp_path)
    assert 1 < len(found) < 5
    assert found == [*range(1, len(found)), 5]


@pytest.mark.parametrize("start_step", [0, 2])
def test_what_is_no_file_is_left_alone_and_said(tmp_path, start_step, caplog):
    run, target = tmp_path / "run", tmp_path / "precious"
    run.mkdir()
    target.write_bytes(b"precious")
    (run / "events.out.tfevents.1.link").symlink_to(target)
    (run / "events.out.tfevents.2.folder").mkdir()
    os.mkfifo(run / "events.out.tfevents.3.fifo")
    writers.drop_later_events(run, start_step)
    assert caplog.text.count("is not a regular file: it is left alone") == 3
    assert len(list(run.iterdir())) == 3
    assert target.read_bytes() == b"precious"
