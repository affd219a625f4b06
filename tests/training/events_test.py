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
