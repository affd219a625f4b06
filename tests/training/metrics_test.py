import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.training import metrics

# As a training step has them: one program for each shape, not one for each operation.
classification_sums = jax.jit(metrics.classification_sums)
label_rank = jax.jit(metrics.label_rank)
LOGITS = jnp.array(
    [
        [5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0],
        [5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0],
        [5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ]
)


def test_rank_counts_the_classes_before_the_true_one():
    labels = jnp.array([0, 4, 5, 3])
    assert label_rank(LOGITS, labels).tolist() == [0, 4, 5, 3]


def test_rank_agrees_with_argmax_and_top_k_on_ties():
    logits = jax.random.randint(jax.random.key(0), (200, 10), -3, 4) / 2
    labels = jax.random.randint(jax.random.key(1), (200,), 0, 10)
    rank = label_rank(logits, labels)
    np.testing.assert_array_equal(rank == 0, logits.argmax(-1) == labels)
    _, first_five = jax.lax.top_k(logits, 5)
    np.testing.assert_array_equal(rank < 5, (first_five == labels[:, None]).any(-1))


def test_errors_are_in_percent_and_exact():
    labels = jnp.array([0, 4, 5, 0])
    sums = classification_sums(LOGITS, labels)
    means = metrics.divide(metrics.add({}, jax.device_get(sums)))
    assert means["top1_error"] == 50.0
    assert means["top5_error"] == 25.0
    log_z = np.log(np.exp(np.arange(-1, 6)).sum())
    expected = (log_z - 5 + log_z - 1 + log_z - 0 + np.log(7)) / 4
    assert means["loss"] == pytest.approx(expected, rel=1e-6)


def test_padding_does_not_count_whatever_it_holds():
    labels = jnp.array([0, 4, 5, 0])
    padded = jnp.concatenate([LOGITS, jnp.full((2, 7), jnp.nan)])
    mask = jnp.array([1.0, 1, 1, 1, 0, 0])
    plain = classification_sums(LOGITS, labels)
    masked = classification_sums(padded, jnp.r_[labels, 0, 0], mask)
    assert jax.device_get(plain) == jax.device_get(masked)


def test_nan_is_never_called_right():
    logits = jnp.array([[jnp.nan, 0.0], [0.0, jnp.nan]])
    sums = classification_sums(logits, jnp.array([0, 0]))
    assert float(sums["top1_error"][0]) == 200.0


def test_top5_error_is_zero_with_fewer_classes():
    sums = classification_sums(jnp.eye(3), jnp.array([1, 2, 0]))
    assert float(sums["top5_error"][0]) == 0.0
    assert float(sums["top1_error"][0]) == 300.0


def test_batches_of_different_size_are_weighted_by_their_examples():
    labels = jnp.array([0, 4, 5, 0])
    whole = metrics.add({}, classification_sums(LOGITS, labels))
    parts = {}
    for part in (slice(0, 3), slice(3, 4)):
        parts = metrics.add(parts, classification_sums(LOGITS[part], labels[part]))
    assert metrics.divide(parts) == pytest.approx(metrics.divide(whole), rel=1e-6)


def test_nothing_counted_is_an_error():
    with pytest.raises(ValueError, match="split is empty"):
        metrics.divide({"loss": (0.0, 0.0)})


@pytest.mark.parametrize("label", [3, -1, -3, 2**31 - 1, -(2**31)])
def test_a_label_that_is_no_class_is_never_called_right(label):
    logits = jnp.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    sums = classification_sums(logits, jnp.array([label, 0]))
    means = metrics.divide(metrics.add({}, jax.device_get(sums)))
    assert (means["top1_error"], means["top5_error"]) == (50.0, 50.0)
    assert np.isnan(means["loss"])
    # Nor does it matter where it is padding.
    masked = classification_sums(logits, jnp.array([label, 0]), jnp.array([0.0, 1.0]))
    plain = classification_sums(logits[1:], jnp.array([0]))
    assert jax.device_get(masked) == jax.device_get(plain)


def test_the_best_evaluation_is_the_earliest_of_equals():
    history = metrics.History()
    improved = [
        history.add_evaluation(step, step / 10, {"top1_error": error})
        for step, error in ((10, 5.0), (20, 4.0), (30, 4.0), (40, 6.0))
    ]
    assert improved == [True, True, False, False]
    assert history.best == {"step": 20, "epoch": 2.0, "top1_error": 4.0}
    assert history.last["step"] == 40
    assert history.best_step == 20


def test_training_sums_survive_a_checkpoint():
    whole, first = metrics.History(), metrics.History()
    steps = [{"loss": (0.1 * n, 3.0)} for n in range(5)]
    for sums in steps:
        whole.add_train(sums)
    for sums in steps[:2]:
        first.add_train(sums)
    second = metrics.History(**json.loads(json.dumps(first.as_json())))
    for sums in steps[2:]:
        second.add_train(sums)
    assert second.take_train() == whole.take_train() == {"loss": pytest.approx(1 / 15)}
    assert second.take_train() == {}


def test_nothing_evaluated_yet():
    assert metrics.History().best_step is None
