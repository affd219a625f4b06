import pytest

from optnet_jax.errors import closest

FIELDS = (
    "seed",
    "name",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "average.decay",
    "data.batch_size",
    "schedule.epochs",
)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sede", "seed"),
        ("optimizer.lr", "optimizer.learning_rate"),
        ("data.learning_rate", "optimizer.learning_rate"),
        ("decay", "average.decay"),
        ("optimizer.decay", "average.decay"),
        ("bs", "data.batch_size"),
        ("train.batch", "data.batch_size"),
        ("schedule.epoch", "schedule.epochs"),
        ("xyzzy", None),
    ],
)
def test_the_name_that_was_meant(given, meant):
    assert closest(given, FIELDS) == meant
