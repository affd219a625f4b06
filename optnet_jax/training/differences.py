"""In what two configs differ: what a run, its checkpoints and its evaluation agree on.

A field that one of them lacks has its default, so that neither a newer version's field
nor a default that is written out tells two runs apart. Only how many classes a folder
of pictures has is not known here: one that lacks ``model.num_classes`` is not compared
in it.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flax.traverse_util import flatten_dict

from optnet_jax import data, networks
from optnet_jax.configuration import TrainConfig, as_json
from optnet_jax.configuration.block import add_missing

NOT_SET = "not set"
# What decides which function a network with its variables is, and on what it is
# measured.
FUNCTION_FIELDS = ("model", "precision", "data.dataset", "data.image_size")

SHOWN, LONGEST = 4, 160
"""Differences that a message names, and characters of each."""


def config_differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    only: Sequence[str] | None = None,
    free: Sequence[str] = TrainConfig.free,
) -> list[str]:
    """Say where two configs differ, leaving out what a run is free to change.

    Both are of plain JSON types; ``only`` these fields and blocks count, if given, and
    those that are ``free`` do not.

    >>> config_differences({"seed": 0, "log": {"n": 1}}, {"seed": 1, "log": {"n": 2}})
    ['seed was 0, now 1']
    """
    before = flatten_dict(settled(old), sep=".")
    after = flatten_dict(settled(new), sep=".")
    return [
        f"{name} was {was}, now {now}"
        for name, was, now in differing(before, after)
        if not within(name, free) and (only is None or within(name, only))
        if name != "model.num_classes" or NOT_SET not in (was, now)
    ]


def differing(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the names of which two mappings hold something else, with what each holds.

    >>> list(differing({"a": 1, "b": 2}, {"b": 3}))
    [('a', 1, 'not set'), ('b', 2, 3)]
    """
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name, NOT_SET), new.get(name, NOT_SET)
        if was != now:
            yield name, was, now


def listed(differences: Sequence[str]) -> str:
    """Differences as a message gives them: the first few, none of them long.

    >>> listed(["seed was 0, now 1", "name was a, now b"])
    'seed was 0, now 1; name was a, now b'
    >>> listed(["x was 1, now 2"] * 8)[-33:]
    'x was 1, now 2; and 4 more fields'
    """
    lines = [
        text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
        for text in (" ".join(line.split()) for line in differences[:SHOWN])
    ]
    more = len(differences) - SHOWN
    return "; ".join([*lines, *([f"and {more} more fields"] if more > 0 else [])])


def within(name: str, blocks: Sequence[str]) -> bool:
    """Say whether a field is one of these, or in one of these blocks."""
    return any(f"{name}.".startswith(f"{block}.") for block in blocks)


def settled(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give a training run's config the defaults that it and its network lack."""
    if config.get("experiment") != "train":
        return dict(config)
    whole = copy.deepcopy(dict(config))
    add_missing(whole, as_json(TrainConfig.defaults()))
    model = whole.get("model")
    if isinstance(model, Mapping) and isinstance(model.get("name"), str):
        defaults = as_json(networks.field_defaults(model["name"]))
        block = whole.get("data")
        name = block.get("dataset") if isinstance(block, Mapping) else None
        # A network has as many outputs as its images have classes, whatever its own
        # default is.
        defaults.pop("num_classes", None)
        if spec := data.SPECS.get(str(name)):
            defaults["num_classes"] = spec.num_classes
        whole["model"] = defaults | dict(model)
    return whole
