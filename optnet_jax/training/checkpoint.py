"""Checkpoints that are on the disk when called saved, and checked on the way back.

Orbax writes below a temporary name. Only what is synced is renamed to its step, and
only then are older steps deleted: a kill, a power cut or a full disk leaves no step in
part. Damage after that does happen: a truncated file raises, flipped bytes restore
silently wrong. So checksums are kept beside the arrays, and resuming walks back to the
newest step that matches.
"""

import concurrent.futures
import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from optnet_jax.errors import InputError, one_line
from optnet_jax.runs import distributed, files, step_folders
from optnet_jax.training.differences import listed
from optnet_jax.training.leaves import (
    Leaves,
    check_same_network,
    flatten,
    leaf_checksums,
    unflatten,
)
from optnet_jax.training.origin import Meta, Origin
from optnet_jax.training.quiet import QuietOrbax
from optnet_jax.training.steps import TrainState

# A folder that cannot be made must fail at once, in the thread that asked for it:
# made in the background, Orbax's other threads wait 20 minutes for it.
_NOT_IN_BACKGROUND = ocp.AsyncOptions(create_directories_asynchronously=False)

# What keeps from reading and says nothing of what is there: a disk or server that
# fails, no memory, too many open files. By the text, which is all that TensorStore has.
_LACKS = (
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN),
    *(errno.ENOMEM, errno.EMFILE, errno.ENFILE),
)
_PASSING = re.compile("|".join(["RESOURCE_EXHAUSTED", *map(os.strerror, _LACKS)]))


class DamagedCheckpointError(Exception):
    """A committed checkpoint, of ``step``, cannot be read back as it was written."""

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: ``<workdir>/checkpoints``; made where it is missing.
        sharding: Where restored arrays go.
        origin: What the run is: saved with every checkpoint, and what
            ``restore_newest`` holds a checkpoint against.
        keep: How many of the newest checkpoints stay (the best one stays besides).
        read_only: For evaluation: nothing is made, renamed or deleted.

    Attributes:
        last_saved: The newest step known to be on the disk.

    Raises:
        InputError: if the directory cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        sharding: jax.sharding.Sharding,
        origin: Origin | None = None,
        keep: int = 2,
        read_only: bool = False,
    ):
        self.directory = Path(directory).absolute()
        self._sharding = sharding
        self._origin = origin
        self._keep = keep
        self.last_saved: int | None = None
        self._compared = False
        self._writing: concurrent.futures.Future[int] | None = None
        if not read_only and jax.process_index() == 0:
            with self._write_errors():
                step_folders.prepare(self.directory)
        self._quiet = QuietOrbax()
        self._settler = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._orbax = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(
                composite_options=ocp.CompositeOptions(
                    async_options=_NOT_IN_BACKGROUND
                ),
                state=ocp.StandardCheckpointHandler(),
                meta=ocp.JsonCheckpointHandler(),
            ),
            async_options=_NOT_IN_BACKGROUND,
        )
        # By each process alone: one that finds damage would leave the others waiting.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=jax.process_index(), active_processes={jax.process_index()}
        )
        self._reader = ocp.Checkpointer(
            ocp.StandardCheckpointHandler(multiprocessing_options=alone),
            multiprocessing_options=alone,
        )

    def __enter__(self) -> "Checkpoints":
        self._quiet.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.wait()
        except InputError:
            if not any(exception):
                raise
        finally:
            self._settler.shutdown()
            self._orbax.close()
            self._reader.close()
            self._quiet.__exit__(*exception)

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, oldest first."""
        return step_folders.steps(self.directory)

    def save(
        self,
        state: TrainState,
        history: Mapping[str, Any],
        best_step: int | None = None,
    ) -> None:
        """Write a checkpoint; the copy to disk goes on in the background.

        Args:
            state: The state; its ``step`` names the checkpoint.
            history: JSON-able bookkeeping of the run, given back on resume.
            best_step: The step with the lowest error so far, which is kept.

        Raises:
            InputError: if this or the previous checkpoint could not be written.
        """
        self.wait()
        step = int(state.step)
        if step == self.last_saved:
            return
        leaves = flatten(state)
        meta = Meta(leaf_checksums(leaves), dict(history), self._origin)
        if not self._compared and not distributed.alike(str(meta.checksums)):
            logging.warning(
                "the states of the processes differ at step %d and should be copies of "
                "one: look for other libraries, devices of another kind or a faulty "
                "one; what is saved is process 0's",
                step,
            )
        self._compared = True
        with self._write_errors():
            if jax.process_index() == 0:
                # What Orbax needs at most, metadata and all, in 28 files.
                size = sum(leaf.nbytes + 1024 for leaf in leaves.values()) + 2**17
                step_folders.check_room(self.directory, step, size, 28)
            self._orbax.save(
                step_folders.temporary(self.directory, step),
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(leaves),
                    meta=ocp.args.JsonSave(meta.as_json()),
                ),
                force=True,
            )
        self._writing = self._settler.submit(self._settle, step, best_step)

    def _settle(self, step: int, best_step: int | None) -> int:
        """Commit a step once it is on the disk, and then delete older ones."""
        self._orbax.wait_until_finished()
        if jax.process_index() == 0:
            step_folders.commit(self.directory, step)
            older = [n for n in self.steps()[: -self._keep] if n != best_step]
            for n in older:
                step_folders.delete(self.directory, n)
        return step

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is on the disk.

        Raises:
            InputError: if it could not be written (full disk, lost permission).
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            with self._write_errors():
                self.last_saved = writing.result()

    @contextlib.contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Say in one line that a checkpoint could not be written."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            causes = error, error.__cause__
            if any(isinstance(e, jax.errors.JaxRuntimeError) for e in causes):
                raise  # another process is gone: nobody's mistake, all start again
            if jax.process_index() == 0 and self.directory.is_dir():
                step_folders.remove_temporary(self.directory)
            raise files.not_written(
                f"a checkpoint could not be written to {self.directory}",
                one_line(error, 200),
                step_folders.newest(self.directory),
            ) from error

    def restore_newest(
        self, template: TrainState
    ) -> tuple[TrainState, dict[str, Any]] | None:
        """Restore the newest sound checkpoint; name and set aside damaged ones.

        Args:
            template: A state of the right structure (arrays or shapes).

        Returns:
            The state and the history saved with it; ``None`` if there is none.

        Raises:
            InputError: if the checkpoint belongs to another run or network, if it may
                not be read, or if there are checkpoints but none is sound.
            RuntimeError: as :meth:`read` says; nothing is set aside.
        """
        damaged = []
        for step in reversed(self.steps()):
            try:
                found, problem = self.read(step), ""
            except DamagedCheckpointError as error:
                found, problem = None, str(error)
            sound = distributed.everywhere(found is not None)
            if found is None or not sound:
                problem = problem or f"another process cannot read step {step}"
                logging.warning("%s; trying the one before it", problem)
                damaged.append(step)
                continue
            leaves, meta = found
            self._check_origin(step, meta.origin)
            check_same_network(leaves, flatten(template), self.directory / str(step))
            if damaged:
                # So that the run can save these steps again.
                if jax.process_index() == 0:
                    for other in damaged:
                        step_folders.set_aside(self.directory, other)
                ocp.multihost.sync_global_processes("optnet_jax_damaged_set_aside")
            self.last_saved = step
            return unflatten(template, leaves), meta.history
        if damaged:
            raise InputError(
                f"every checkpoint in {self.directory} is damaged, or of another "
                f"program (steps {damaged}): move them away or choose another --workdir"
                " to start afresh"
            )
        return None

    def _check_origin(self, step: int, origin: Origin | None) -> None:
        """Refuse a checkpoint of another run."""
        if self._origin is None:
            return
        if origin is None:
            logging.warning(
                "the checkpoint of step %d does not say which config and data it "
                "belongs to (an older version wrote it): that is not checked",
                step,
            )
            return
        differences = origin.differences(self._origin)
        if differences:
            raise InputError(
                f"the checkpoint of step {step} in {self.directory} belongs to another "
                f"run ({listed(differences)}): use its config, data, Spec and settings "
                "of JAX, or another --workdir"
            )
        if origin.jax not in ("", self._origin.jax):
            logging.warning(
                "the checkpoint of step %d was written with jax %s, this is %s: what "
                "follows is the same run up to rounding",
                step,
                origin.jax,
                self._origin.jax,
            )

    def read(self, step: int) -> tuple[Leaves, Meta]:
        """Read the named leaves of one step, and what is beside them; of any network.

        Raises:
            DamagedCheckpointError: if it cannot be read back as it was written.
            InputError: if a link, a FIFO or the like is in it, or it may not be read.
            RuntimeError: if it may be read another time: there is no memory, or the
                disk fails.
        """
        meta = self.read_meta(step)
        with self._reading(step) as folder:
            # Not the reader's own method, which turns all errors into None.
            handler: Any = self._reader.handler
            items = handler.metadata(folder / "state")
            shapes = {
                name: jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype, sharding=self._sharding
                )
                for name, leaf in items.items()
            }
            args = ocp.args.StandardRestore(shapes)
            leaves = self._reader.restore(folder / "state", args)
            for name, checksum in leaf_checksums(leaves).items():
                if meta.checksums.get(name) != checksum:
                    raise ValueError(f"{name} does not match its checksum")
            inside = int(leaves.get("step", step))
            if inside != step:
                raise ValueError(f"it holds step {inside}: rename the folder to that")
        return leaves, meta

    def read_meta(self, step: int) -> Meta:
        """Read what is saved beside the arrays of one step; see :meth:`read`."""
        with self._reading(step) as folder:
            return Meta.from_json(files.read_object(folder / "meta" / "metadata"))

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[Path]:
        """Yield the folder of a step; what goes wrong is damage, or a lack of means."""
        step_folders.check_kinds(self.directory, step)
        try:
            yield self.directory / str(step)
        except Exception as error:
            what = f"the checkpoint of step {step} in {self.directory}"
            cause = one_line(error, 160)
            if os.strerror(errno.EACCES) in str(error):
                raise InputError(
                    f"{what} cannot be read ({cause}): give read permission"
                ) from error
            if isinstance(error, MemoryError) or _PASSING.search(str(error)):
                raise RuntimeError(
                    f"{what} cannot be read now ({cause}): it is left as it is; run "
                    "the same command again or, if that does not help, move its folder "
                    "away, for the step before it to be taken"
                ) from error
            # Orbax and TensorStore raise whatever the damaged byte leads to.
            raise DamagedCheckpointError(
                f"{what} is damaged ({cause})", step
            ) from error
