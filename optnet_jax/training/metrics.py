"""Metrics as (sum, normaliser) pairs: means are taken once, over the whole set."""

from collections.abc import Mapping

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
    wrong = {
        "top1_error": rank >= 1,
        # With fewer than five classes, "among the first five" is always true.
        "top5_error": rank >= 5,
    }
    # where, not a product: padding may hold anything, and 0 * inf is NaN.
    sums = {"loss": (jnp.sum(jnp.where(mask > 0, loss * mask, 0.0)), count)}
    for name, is_wrong in wrong.items():
        sums[name] = (100.0 * jnp.sum(jnp.where(is_wrong, mask, 0.0)), count)
    return sums


def label_rank(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Number of classes placed before the true one; ties go to the lower index.

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
    return {
        name: (
            totals.get(name, (0.0, 0.0))[0] + float(value),
            totals.get(name, (0.0, 0.0))[1] + float(normaliser),
        )
        for name, (value, normaliser) in sums.items()
    }


def divide(totals: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Turn totals into means.

    Raises:
        ValueError: if there is nothing to average.
    """
    if not totals or any(normaliser == 0 for _, normaliser in totals.values()):
        raise ValueError("no examples were counted: the split is empty")
    return {name: value / normaliser for name, (value, normaliser) in totals.items()}
