import dataclasses
import math

import pytest
from optnet_jax.configs import recipes

from optnet_jax.configuration import TrainConfig
from optnet_jax.errors import InputError


def config(**changes):
    made, _ = recipes.digits("mine", "")
    made.model = {"name": "hb_net", "beta2": -0.5}
    tree = made.to_dict()
    for name, value in changes.items():
        block, _, field = name.rpartition("__")
        (tree[block] if block else tree)[field] = value
    return tree


def test_the_attributes_are_those_of_the_config():
    made = TrainConfig.of(config(optimizer__learning_rate=0.05))
    assert made.optimizer.learning_rate == 0.05
    assert made.model.name == "hb_net"
    assert made.as_mapping() == config(optimizer__learning_rate=0.05)


def test_defaults_are_fit_for_use():
    made = TrainConfig.of({"name": "a", "model": {"name": "hb_net"}})
    assert TrainConfig.of({"name": "a", **TrainConfig.defaults(), "model": made.model})


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer__kind": "adam"},
        {"momentum": 0.9},
        {"schedule__drop_factor": -0.1},
        {"schedule__drop_factor": 0.0},
        {"schedule__warmup_epochs": -5.0},
        {"schedule__warmup_epochs": math.inf},
        {"schedule__epochs": math.nan},
        {"schedule__epochs": 0},
        {"schedule__steps": 2**31},
        {"schedule__drop_at": ((0.5,),)},
        {"schedule__drop_at": (150.0,)},
        {"schedule__drop_at": 0.5},
        {"log__every_steps": -3},
        {"eval__every_epochs": math.inf},
        {"eval__every_epochs": math.nan},
        {"checkpoint__every_epochs": 0.0},
        {"eval__checkpoint": "²"},
        {"eval__checkpoint": "9" * 5000},
        {"checkpoint__keep": 0},
        {"optimizer__weight_decay": math.nan},
        {"optimizer__weight_decay": -1e-4},
        {"optimizer__learning_rate": math.inf},
        {"optimizer__learning_rate": 1e-320},
        {"optimizer__momentum": 1.0},
        {"optimizer__decay_exclude": "bias"},
        {"loss__label_smoothing": 1.0},
        {"average__decay": 1.0},
        {"average__decay": -0.1},
        {"profile__steps": -1},
        {"seed": -1},
        {"seed": 2**32},
        {"seed": 2**64},
        {"seed": 1.5},
        {"data": 3},
        {"data__data_dir": None},
        {"data__batch_size": 0},
        {"optimizer__accumulate": 3},
        {"optimizer__accumulate": 0},
        {"precision": "float16"},
        {"deterministic": "no"},
        {"experiment": "table2"},
        {"name": ""},
        {"model": {}},
        {"model": "hb_net"},
    ],
    ids=str,
)
def test_what_no_run_can_mean_is_refused(change):
    (field,) = (name.rpartition("__")[2] for name in change)
    with pytest.raises(InputError, match=rf"^config\b.*\b{field}\b") as caught:
        TrainConfig.of(config(**change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2**32 - 1},
        {"schedule__steps": 2**31 - 1},
        {"schedule__epochs": 1},
        {"eval__checkpoint": "1000"},
        {"optimizer__learning_rate": 1e38},
        {"data": {}},
    ],
    ids=str,
)
def test_the_ends_of_a_range_are_in_it(change):
    TrainConfig.of(config(**change))


def test_a_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    made = TrainConfig.of(
        config(data__data_dir="~/sets", checkpoint__warm_start="~/run@10")
    )
    assert made.data.data_dir == "/home/me/sets"
    assert made.checkpoint.warm_start == "/home/me/run@10"


def test_every_field_says_what_it_is():
    """A field without a line in its docstring is an option that nobody can use."""

    def blocks(block):
        yield block
        for field in dataclasses.fields(block):
            if isinstance(field.default, dataclasses.Field) or not hasattr(
                field.default, "as_mapping"
            ):
                continue
            yield from blocks(type(field.default))

    for block in blocks(TrainConfig):
        for field in dataclasses.fields(block):
            assert f"    {field.name}: " in block.__doc__, (block, field.name)
