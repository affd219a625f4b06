"""Checkpoints that are checked on the way back: Orbax, with a checksum of every leaf.

A save that is killed leaves no trace, but damage after the commit does: a truncated
file raises, flipped bytes restore silently wrong. So the checksum of each leaf is kept
beside the arrays, and resuming walks back to the newest step that matches.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from optnet_jax.errors import InputError
from optnet_jax.training.leaves import (
    Leaves,
    check_same_network,
    flatten,
    leaf_checksums,
    unflatten,
)
from optnet_jax.training.state import TrainState


class DamagedCheckpointError(Exception):
    """A committed checkpoint cannot be read back as it was written."""


@dataclasses.dataclass
class _LatestAndBest:
    """Orbax preservation policy: the newest ``keep`` steps and the best one."""

    keep: int
    best_step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any):
        del context
        first_kept = len(checkpoints) - self.keep
        return [
            index >= first_kept or checkpoint.step == self.best_step
            for index, checkpoint in enumerate(checkpoints)
        ]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: ``<workdir>/checkpoints``; made where it is missing.
        keep: How many of the newest checkpoints stay (the best one stays besides).
        sharding: Where restored arrays go.
        read_only: For evaluation: nothing is made, renamed or deleted.
    """

    def __init__(
        self,
        directory: Path,
        *,
        sharding: jax.sharding.Sharding,
        keep: int = 2,
        read_only: bool = False,
    ):
        if keep < 1:
            raise InputError(f"config.checkpoint.keep={keep} must be at least 1")
        self.directory = Path(directory).absolute()
        self._sharding = sharding
        self._read_only = read_only
        self._policy = _LatestAndBest(keep)
        self._saved: int | None = None
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._policy,
                cleanup_tmp_directories=not read_only,
                # Orbax's own read_only warns about itself on every start.
                create=not read_only,
            ),
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "meta": ocp.JsonCheckpointHandler(),
            },
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    @property
    def last_saved(self) -> int | None:
        """The newest step known to be committed."""
        return self._saved

    def steps(self) -> list[int]:
        """Steps that have a committed checkpoint, oldest first."""
        if not self.directory.is_dir():
            return []
        return sorted(self._manager.all_steps())

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
        if step in self._manager.all_steps():
            return
        self._policy.best_step = best_step
        leaves = flatten(state)
        meta = {"checksums": leaf_checksums(leaves), "history": dict(history)}
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(leaves),
                    meta=ocp.args.JsonSave(meta),
                ),
                force=True,
            )
        except (OSError, ValueError) as error:
            raise self._not_written(error) from error

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is committed.

        Raises:
            InputError: if it could not be written (full disk, lost permission).
        """
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise self._not_written(error) from error
        steps = self._manager.all_steps()
        self._saved = max(steps) if steps else None

    def _not_written(self, error: Exception) -> InputError:
        cause = " ".join(str(error).split())[:200]
        return InputError(
            f"a checkpoint could not be written to {self.directory} ({cause}), "
            f"{self.describe_last()}: make room or give write permission and run the "
            "same command again"
        )

    def describe_last(self) -> str:
        """The newest committed checkpoint in words."""
        if self._saved is None:
            return "there is no earlier checkpoint"
        return f"the checkpoint of step {self._saved} is intact"

    def restore_newest(
        self, template: TrainState
    ) -> tuple[TrainState, dict[str, Any]] | None:
        """Restore the newest sound checkpoint; name and set aside damaged ones.

        Args:
            template: A state of the right structure (arrays or shapes).

        Returns:
            The state and the history saved with it; ``None`` if there is none.

        Raises:
            InputError: if the checkpoint belongs to another network, or if there are
                checkpoints but none is sound.
        """
        damaged = []
        for step in reversed(self.steps()):
            try:
                state, history = self.restore(step, template)
            except DamagedCheckpointError as error:
                logging.warning("%s; trying the one before it", error)
                damaged.append(step)
                continue
            self._set_aside(damaged)
            self._saved = step
            return state, history
        if damaged:
            raise InputError(
                f"every checkpoint in {self.directory} is damaged (steps {damaged}): "
                "delete the workdir or choose another with --workdir to start afresh"
            )
        return None

    def restore(
        self, step: int, template: TrainState
    ) -> tuple[TrainState, dict[str, Any]]:
        """Restore one step into the structure of ``template``.

        Raises:
            InputError: if it was written by another network.
            DamagedCheckpointError: if it cannot be read back as it was written.
        """
        expected = flatten(template)
        shapes = self._stored_shapes(step)
        check_same_network(shapes, expected, self.directory / str(step))
        leaves, history = self._read(step, shapes)
        return unflatten(template, leaves), history

    def read(self, step: int) -> tuple[Leaves, dict[str, Any]]:
        """Read the named leaves of one step without knowing the network.

        Raises:
            DamagedCheckpointError: if it cannot be read back as it was written.
        """
        return self._read(step, self._stored_shapes(step))

    def _stored_shapes(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        try:
            stored = self._manager.item_metadata(step)["state"]
            return {
                name: jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype, sharding=self._sharding
                )
                for name, leaf in stored.items()
            }
        except Exception as error:
            # Orbax and TensorStore raise whatever the damaged byte leads to.
            raise self._damaged(step, error) from error

    def _read(
        self, step: int, shapes: Mapping[str, jax.ShapeDtypeStruct]
    ) -> tuple[Leaves, dict[str, Any]]:
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(dict(shapes)),
                    meta=ocp.args.JsonRestore(),
                ),
            )
            leaves, meta = restored["state"], restored["meta"]
            checksums, history = meta["checksums"], meta["history"]
        except Exception as error:
            raise self._damaged(step, error) from error
        for name, checksum in leaf_checksums(leaves).items():
            if checksums.get(name) != checksum:
                raise self._damaged(step, f"{name} does not match its checksum")
        return leaves, history

    def _damaged(self, step: int, cause: object) -> DamagedCheckpointError:
        line = " ".join(str(cause).split())[:160]
        return DamagedCheckpointError(
            f"the checkpoint of step {step} in {self.directory} is damaged ({line})"
        )

    def _set_aside(self, steps: Sequence[int]) -> None:
        """Rename damaged steps, so that the run can save these steps again."""
        if self._read_only or not steps:
            return
        if jax.process_index() == 0:
            for step in steps:
                source = self.directory / str(step)
                target = self.directory.with_name("damaged_checkpoints") / str(step)
                target.parent.mkdir(exist_ok=True)
                number = 1
                while target.exists():
                    target = target.with_name(f"{step}.{number}")
                    number += 1
                source.rename(target)
        ocp.multihost.sync_global_processes("optnet_jax_damaged_set_aside")
        self._manager.reload()
