import dataclasses
from typing import Annotated

import numpy as np
import pytest
from ml_collections import ConfigDict, config_dict

from optnet_jax.configuration.block import Block, as_json
from optnet_jax.errors import InputError
from optnet_jax.kinds import Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner(Block, path="inner."):
    rate: Annotated[float, Range(above=0)] = 0.1
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer(Block):
    size: int
    inner: Inner = Inner()

    def check(self):
        if self.size > 9 and self.inner.rate > 1:
            raise InputError("too much")


@pytest.mark.parametrize("form", [dict, ConfigDict])
def test_a_config_becomes_frozen_dataclasses(form):
    made = Outer.of(form({"size": 3, "inner": {"rate": 1, "names": ["a"]}}))
    assert made == Outer(size=3, inner=Inner(rate=1.0, names=("a",)))
    assert Outer.of(made) is made
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.size = 4


def test_references_are_resolved():
    config = ConfigDict({"size": 3})
    config.inner = {"rate": config_dict.FieldReference(0.5)}
    assert Outer.of(config).inner.rate == 0.5


def test_what_is_made_from_python_is_checked_too():
    with pytest.raises(InputError, match="config.inner.rate=-1 must be above 0"):
        Inner(rate=-1)
    with pytest.raises(InputError, match="config.size='a' must be a whole number"):
        dataclasses.replace(Outer(size=3), size="a")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"size": 1, "siez": 2},
            "config.siez: there is no such config field; did you "
            "mean size? there are size, inner",
        ),
        (
            {"size": 1, "inner": {"lr": 2}},
            "config.inner.lr: there is no such config field; there are rate, names",
        ),
        ({}, "config lacks the field size"),
        (
            {"size": 1, "inner": 3},
            "config.inner=3 must be a block with the fields rate, names",
        ),
        ([], "config=[] must be a block with the fields size, inner"),
        ({"size": 10, "inner": {"rate": 2}}, "too much"),
        (
            {"size": 1, 7: 2},
            "config.7: there is no such config field; there are size, inner",
        ),
    ],
)
def test_what_is_wrong_is_one_line(config, message):
    with pytest.raises(InputError) as caught:
        Outer.of(config)
    assert str(caught.value) == message


def test_the_way_back_to_dicts():
    made = Outer(size=3)
    assert made.as_mapping() == {"size": 3, "inner": {"rate": 0.1, "names": ()}}
    assert Outer.defaults() == {"inner": {"rate": 0.1, "names": ()}}
    assert as_json(made) == {"size": 3, "inner": {"rate": 0.1, "names": []}}


def test_json_of_a_config_dict_is_that_of_its_block():
    config = ConfigDict({"size": 3, "inner": {"rate": 0.1, "names": ()}})
    assert as_json(config) == as_json(Outer.of(config))


def test_arrays_are_written_whole():
    long = np.arange(2000.0)
    assert as_json({"beta": long})["beta"] == list(long)
    assert as_json({"beta": np.float32(0.5)}) == {"beta": 0.5}


def test_what_json_has_not_is_the_same_in_every_process():
    assert "0x" not in str(as_json({"function": print, "object": object()}))
