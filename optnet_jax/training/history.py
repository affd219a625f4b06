"""What a run remembers besides its state, so that a resumed one goes on exactly."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from optnet_jax.training import metrics as metrics_lib


@dataclasses.dataclass
class History:
    """Bookkeeping that is saved with every checkpoint.

    Attributes:
        last: The latest evaluation: ``loss``, ``top1_error``, ``top5_error`` and the
            ``step`` and ``epoch`` at which it was made.
        best: The evaluation with the lowest top-1 error; the earliest of equals.
        train_sums: Sums of the training metrics since they were last written.
        wall_seconds: Time spent by all starts of the run together.
        lines: How many lines each file had that is appended to, by its name.
    """

    last: dict[str, Any] = dataclasses.field(default_factory=dict)
    best: dict[str, Any] = dataclasses.field(default_factory=dict)
    train_sums: dict[str, Any] = dataclasses.field(default_factory=dict)
    wall_seconds: float = 0.0
    lines: dict[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "History":
        """What ``as_json`` returned, here or in another version."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: saved[name] for name in saved if name in names})

    def add_train(self, sums: dict[str, Any]) -> None:
        """Add the metrics of one training step (host values)."""
        self.train_sums = metrics_lib.add(self.train_sums, sums)

    def take_train(self) -> dict[str, float]:
        """Means of the training metrics since the last call; empty without steps."""
        sums, self.train_sums = self.train_sums, {}
        return metrics_lib.divide(sums) if sums else {}

    def add_evaluation(self, step: int, epoch: float, means: dict[str, float]) -> bool:
        """Note an evaluation; says whether it is the best one so far."""
        self.last = {"step": step, "epoch": epoch, **means}
        # Put so that an error of NaN, which older versions took, never stays the best.
        is_best = not (self.best and self.best["top1_error"] <= means["top1_error"])
        if is_best:
            self.best = dict(self.last)
        return is_best

    @property
    def best_step(self) -> int | None:
        """Step of the best evaluation."""
        return self.best.get("step")

    def as_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dataclasses.asdict(self)
