"""Metrics as (sum, normaliser) pairs, and what a run remembers of them.

Means are taken once, over the whole set.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax


def classification_sums(
    logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Cross-entropy and top-1 and top-5 errors of one batch, summed.

    Args:
        logits: [B, num_classes].
        labels: int [B].
        mask: [B], 1 for an example that counts, 0 for padding; all count without it.

    Returns:
        ``loss``, ``top1_error`` and ``top5_error``, each a pair of the sum over the
        examples and the number of examples; errors in percent once divided. A label
        that is no class makes the loss NaN, and is never found.
    """
    mask = jnp.ones(labels.shape, jnp.float32) if mask is None else mask
    logits = logits.astype(jnp.float32)
    count = jnp.sum(mask)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    # Left alone, -1 would count from the end and be an example of the last class.
    loss = jnp.where(_is_class(labels, logits), loss, jnp.nan)
    rank = label_rank(logits, labels)
    # where, not a product: padding may hold anything, and 0 * inf is NaN.
    sums = {"loss": (jnp.sum(jnp.where(mask > 0, loss * mask, 0.0)), count)}
    for first in (1, 5):  # of fewer than five classes every one is among the first five
        wrong = jnp.sum(jnp.where(rank >= first, mask, 0.0))
        sums[f"top{first}_error"] = (100.0 * wrong, count)
    return sums


def label_rank(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Count the classes placed before the true one; ties go to the lower index.

    Args:
        logits: [B, num_classes].
        labels: int [B].

    Returns:
        int32 [B]; 0 where the prediction is right. A row that holds a NaN, and a label
        that is no class, rank last: a comparison with NaN would otherwise call them
        right.
    """
    num_classes = logits.shape[-1]
    true = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    index = jnp.arange(num_classes)[None, :]
    before = (logits > true) | ((logits == true) & (index < labels[:, None]))
    rank = jnp.sum(before, axis=-1)
    broken = jnp.any(jnp.isnan(logits), axis=-1) | ~_is_class(labels, logits)
    return jnp.where(broken, jnp.maximum(num_classes, 5), rank)


def _is_class(labels: jax.Array, logits: jax.Array) -> jax.Array:
    return (labels >= 0) & (labels < logits.shape[-1])


def add(
    totals: Mapping[str, tuple[float, float]], sums: Mapping[str, tuple]
) -> dict[str, tuple[float, float]]:
    """Add the sums of one batch (host values) to the running totals."""
    added = {}
    for name, (value, normaliser) in sums.items():
        total, count = totals.get(name, (0.0, 0.0))
        added[name] = total + float(value), count + float(normaliser)
    return added


def divide(totals: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Turn totals into means.

    Raises:
        ValueError: if there is nothing to average.
    """
    if not totals or any(normaliser == 0 for _, normaliser in totals.values()):
        raise ValueError("no examples were counted: the split is empty")
    return {name: value / normaliser for name, (value, normaliser) in totals.items()}


def describe(means: Mapping[str, float]) -> str:
    """Say in words what an evaluation found."""
    return (
        f"test loss {means['loss']:.4f}, top-1 error {means['top1_error']:.2f} %, "
        f"top-5 error {means['top5_error']:.2f} %"
    )


@dataclasses.dataclass
class History:
    """What a run remembers besides its state; it is saved with every checkpoint.

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
        """Take what ``as_json`` returned, here or in another version."""
        names = cls.__dataclass_fields__
        return cls(**{name: saved[name] for name in saved if name in names})

    def add_train(self, sums: dict[str, Any]) -> None:
        """Add the metrics of one training step (host values)."""
        self.train_sums = add(self.train_sums, sums)

    def take_train(self) -> dict[str, float]:
        """Means of the training metrics since the last call; empty without steps."""
        sums, self.train_sums = self.train_sums, {}
        return divide(sums) if sums else {}

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
