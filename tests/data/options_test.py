import ml_collections
import pytest

from optnet_jax.data.options import Options, options_from
from optnet_jax.errors import InputError


def test_absent_fields_have_their_defaults():
    config = ml_collections.ConfigDict({"dataset": "cifar10", "augment": True})
    assert options_from(config) == Options(dataset="cifar10", augment=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"bach_size": 8}, "data.bach_size is not an option; .* batch_size"),
        ({"dataset": "mnist"}, "no dataset is called 'mnist'; there are optnet_digits"),
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
            "data.crop='centre' is not known; it is random_resized or",
        ),
        ({"image_size": 16}, "image_size=16 cannot be had of optnet_digits"),
        ({"dataset": "imagenet2012", "image_size": -1}, "image_size=-1 cannot be had"),
        ({"shuffle_buffer": 0}, "shuffle_buffer is 0; it must be at least 1"),
    ],
)
def test_bad_values(config, message):
    with pytest.raises(InputError, match=message):
        options_from(config)
