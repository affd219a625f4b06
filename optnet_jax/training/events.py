"""TensorBoard's event files of a run that goes on after it was killed."""

from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore
from tensorboard.summary.writer.record_writer import RecordWriter


def drop_later_events(workdir: Path, start_step: int) -> None:
    """Drop the events of steps that will be run (again).

    A killed start wrote them after its last checkpoint; TensorBoard would draw both
    them and those of the repeated steps. A file whose last record the kill cut short
    is made whole.

    Args:
        workdir: The run's directory.
        start_step: Step that the run goes on from; 0 (a run that starts afresh) removes
            the files.
    """
    for file in sorted(workdir.glob("events.out.tfevents.*")):
        if start_step == 0:
            file.unlink()
            continue
        records = list(RawEventFileLoader(str(file)).Load())
        kept = [r for r in records if Event.FromString(r).step <= start_step]
        rewritten = file.with_name(f"rewritten.{file.name}")
        with rewritten.open("wb") as stream:
            writer = RecordWriter(stream)
            for record in kept:
                writer.write(record)
            writer.flush()
        rewritten.replace(file)
