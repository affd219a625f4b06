import os

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from optnet_jax.training import events, writers


def write(workdir, start_step, steps):
    writer = writers.RunWriter(workdir, start_step)
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
    events.drop_later_events(tmp_path, 2)
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
    events.drop_later_events(run, start_step)
    assert caplog.text.count("is not a regular file: it is left alone") == 3
    assert len(list(run.iterdir())) == 3
    assert target.read_bytes() == b"precious"
