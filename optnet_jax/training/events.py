"""TensorBoard's event files of a run that goes on after it was killed."""

import io
from pathlib import Path

from absl import logging
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore
from tensorboard.summary.writer.record_writer import RecordWriter

from optnet_jax.runs import files


def drop_later_events(workdir: Path, start_step: int) -> None:
    """Drop the events of steps that will be run (again).

    A killed start wrote them after its last checkpoint; TensorBoard would draw both
    them and those of the repeated steps. A file whose last record the kill cut short
    is made whole; one that cannot be read at all stays as it is.

    Args:
        workdir: The run's directory.
        start_step: Step that the run goes on from; 0 (a run that starts afresh) removes
            the files.
    """
    for file in sorted(workdir.glob("events.out.tfevents.*")):
        if file.is_symlink() or not file.is_file():
            logging.warning("%s is not a regular file: it is left alone", file)
        elif start_step == 0:
            file.unlink()
        else:
            _drop_later(file, start_step)


def _drop_later(file: Path, start_step: int) -> None:
    records, sound = [], True
    try:
        # One by one: what comes before the damage counts.
        for record in RawEventFileLoader(str(file)).Load():
            records.append((Event.FromString(record).step, record))
    except Exception as error:
        # TensorFlow raises whatever the damaged byte leads to.
        sound = False
        cause = " ".join(str(error).split())[:100]
        logging.warning("%s is damaged after %d events (%s)", file, len(records), cause)
    kept = [record for step, record in records if step <= start_step]
    whole = io.BytesIO()
    writer = RecordWriter(whole)
    for record in kept:
        writer.write(record)
    if (sound or kept) and len(whole.getvalue()) != file.stat().st_size:
        files.write_durably(file, whole.getvalue())
