import ml_collections
import pytest

from optnet_jax import data
from optnet_jax.data.options import Options, options_from
from optnet_jax.errors import InputError


def test_absent_fields_have_their_defaults():
    config = ml_collections.ConfigDict({"dataset": "cifar10", "augment": True})
    assert options_from(config) == Options(dataset="cifar10", augment=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"bach_size": 8},
            "config.data.bach_size: there is no .* did you mean batch_size",
        ),
        ({"dataset": "mnits"}, "no dataset is called 'mnits'; there are optnet_digits"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_bad_fields(config, message):
    with pytest.raises(InputError, match=message):
        options_from(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"crop": "centre"},
            "data.crop='centre' is unknown: use random_resized or fixed",
        ),
        ({"image_size": 16}, "image_size=16 cannot be had of optnet_digits"),
        (
            {"dataset": "imagenet2012", "image_size": -1},
            "image_size=-1 must be at least 0",
        ),
        ({"shuffle_buffer": 0}, "shuffle_buffer=0 must be at least 1"),
    ],
)
def test_bad_values(config, message):
    with pytest.raises(InputError, match=message):
        options_from(config)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
@pytest.mark.parametrize("dataset", ["optnet_digits", "imagenet2012"])
def test_a_seed_that_another_one_equals_is_refused_for_every_set(dataset, seed):
    with pytest.raises(InputError, match="seed=.* must be"):
        data.load({"dataset": dataset}, seed=seed)


def test_a_name_alone_is_no_config():
    with pytest.raises(InputError, match="config.data='optnet_digits' must be a block"):
        data.load("optnet_digits", seed=0)
