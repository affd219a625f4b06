import re

import numpy as np
import pytest

from optnet_jax import data
from optnet_jax.data import spec
from optnet_jax.errors import InputError

FIELDS = {
    "name": "own",
    "num_classes": 3,
    "image_shape": (4, 4, 3),
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.2, 0.2),
}
STREAMED = {"streamed": True, "resize": 5}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": 3}, "name=3 must be text"),
        ({"num_classes": 0}, "num_classes=0 must be at least 1"),
        ({"num_classes": 3.0}, "num_classes=3.0 must be a whole number"),
        ({"num_classes": True}, "num_classes=True must be a whole number"),
        ({"image_shape": 4}, "image_shape=4 must be a tuple"),
        ({"image_shape": (4, 4)}, "image_shape=(4, 4) must have 3 values"),
        ({"image_shape": (4, 0, 3)}, "image_shape has 0: each must be at least 1"),
        ({"mean": "abc"}, "mean='abc' must be a tuple"),
        ({"mean": 0.5}, "mean=0.5 must be a tuple"),
        ({"mean": (0.5, "b", 0.5)}, "mean has 'b': each must be a finite number"),
        ({"mean": (0.5,)}, "mean=(0.5,) must be one number for each of the 3 channels"),
        ({"mean": (125, 120, 110)}, "mean has 125: each must be at least 0 and at m"),
        ({"std": (0.2, float("nan"), 0.2)}, "std has nan: each must be a finite numb"),
        ({"std": (0.2, 0.0, 0.2)}, "std has 0.0: each must be above 0 and at most 1"),
        ({"pad": -1}, "pad=-1 must be at least 0"),
        ({"flip": "yes"}, "flip='yes' must be True or False"),
        ({"resize": 5}, "resize=5 has no use where a set is not streamed"),
        (
            STREAMED | {"image_shape": (4, 5, 3)},
            "image_shape=(4, 5, 3) of a streamed set",
        ),
        (STREAMED | {"resize": 3}, "resize=3 is less than the side of image_shape"),
        (STREAMED | {"pad": 4}, "pad=4 has no use in a streamed set"),
    ],
)
def test_fields_that_do_not_fit_together(changes, fault):
    fields = FIELDS | changes
    message = f"the Spec of {fields['name']!r} is wrong: {fault}"
    with pytest.raises(InputError, match="^" + re.escape(message)):
        spec.Spec(**fields)


def test_lists_and_arrays_are_tuples():
    fields = {"image_shape": [4, 4, 3], "mean": np.asarray(FIELDS["mean"])}
    assert spec.Spec(**FIELDS | fields) == spec.Spec(**FIELDS)


def test_what_a_set_is_read_from_tells_a_change_wherever_it_lies(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    states = [
        spec.Spec(**FIELDS, sources=(str(tmp_path / name),)).read_from()
        for name in ("a", "b")
    ]
    (tmp_path / "b").write_bytes(b"22")
    states.append(spec.Spec(**FIELDS, sources=(str(tmp_path / "b"),)).read_from())
    assert states[0] == states[1] != states[2]
    assert spec.Spec(**FIELDS).read_from() == {}


def test_another_size_is_cropped_in_proportion():
    entry = spec.get_spec("imagenet2012").with_image_size(112)
    assert (entry.image_shape, entry.resize) == ((112, 112, 3), 128)
    smallest = spec.get_spec("imagenet2012").with_image_size(1)
    assert (smallest.image_shape, smallest.resize) == ((1, 1, 3), 1)


@pytest.mark.parametrize("name", ["cifar", "", None, 3, ["cifar10"], {}])
def test_what_is_no_name_of_a_set(name):
    with pytest.raises(InputError, match="no dataset is called .*; there are optnet_d"):
        spec.get_spec(name)


def test_a_folder_is_no_set_of_the_table():
    with pytest.raises(InputError, match="^optnet_folder is prepared by a run"):
        spec.get_spec("optnet_folder")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("optnet_digits", "config.data='optnet_digits' must be a block"),
        ({"image_size": 16}, "image_size=16 cannot be had of optnet_digits"),
        ({"folder": "here"}, "data.folder='here' is not what data.dataset=optnet_digi"),
        ({"dataset": "mnits"}, "no dataset is called 'mnits'; there are optnet_digits"),
    ],
)
def test_what_cannot_be_asked_of_a_set(config, message):
    with pytest.raises(InputError, match=message):
        data.load(config, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
@pytest.mark.parametrize("dataset", ["optnet_digits", "imagenet2012"])
def test_a_seed_that_another_one_equals_is_refused_for_every_set(dataset, seed):
    with pytest.raises(InputError, match="seed=.* must be"):
        data.load({"dataset": dataset}, seed=seed)
