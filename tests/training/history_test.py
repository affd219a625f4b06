import json

import pytest

from optnet_jax.training.history import History


def test_the_best_evaluation_is_the_earliest_of_equals():
    history = History()
    improved = [
        history.add_evaluation(step, step / 10, {"top1_error": error})
        for step, error in ((10, 5.0), (20, 4.0), (30, 4.0), (40, 6.0))
    ]
    assert improved == [True, True, False, False]
    assert history.best == {"step": 20, "epoch": 2.0, "top1_error": 4.0}
    assert history.last["step"] == 40
    assert history.best_step == 20


def test_training_sums_survive_a_checkpoint():
    whole, first = History(), History()
    steps = [{"loss": (0.1 * n, 3.0)} for n in range(5)]
    for sums in steps:
        whole.add_train(sums)
    for sums in steps[:2]:
        first.add_train(sums)
    second = History(**json.loads(json.dumps(first.as_json())))
    for sums in steps[2:]:
        second.add_train(sums)
    assert second.take_train() == whole.take_train() == {"loss": pytest.approx(1 / 15)}
    assert second.take_train() == {}


def test_nothing_evaluated_yet():
    assert History().best_step is None
