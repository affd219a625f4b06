"""In what two configs differ: what a run, its checkpoints and its evaluation agree on.

A field that one of them lacks has its default, so that neither a newer version's field
nor a default that is written out tells two runs apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from optnet_jax import data, networks
from optnet_jax.configuration import TrainConfig, as_json

# What may change between two starts of one run: where things are and how often they
# are written, never what is computed.
FREE_FIELDS = ("data.data_dir", "log", "checkpoint.keep", "eval.checkpoint", "profile")
# What decides which function a network with its variables is, and on what it is
# measured.
FUNCTION_FIELDS = ("model", "precision", "data.dataset", "data.image_size")

SHOWN, LONGEST = 4, 160
"""Differences that a message names, and characters of each."""


def config_differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    only: Sequence[str] | None = None,
) -> list[str]:
    """Say where two configs differ, leaving out ``FREE_FIELDS``.

    Args:
        old: A config as plain JSON types.
        new: The other.
        only: Dotted names of the fields and blocks that matter; all by default.

    >>> config_differences({"seed": 0, "log": {"n": 1}}, {"seed": 1, "log": {"n": 2}})
    ['seed was 0, now 1']
    """
    before, after = flatten(settled(old)), flatten(settled(new))
    missing = "not set"
    return [
        f"{name} was {before.get(name, missing)}, now {after.get(name, missing)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, missing) != after.get(name, missing)
        and not _within(name, FREE_FIELDS)
        and (only is None or _within(name, only))
    ]


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


def _within(name: str, blocks: Sequence[str]) -> bool:
    return any(f"{name}.".startswith(f"{block}.") for block in blocks)


def settled(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the defaults of the fields that it lacks, those of its network too.

    Args:
        config: As plain JSON types; one that is not of a training run stays as it is.
    """
    if config.get("experiment") != "train":
        return dict(config)
    whole = _merged(as_json(TrainConfig.defaults()), config)
    model = whole.get("model")
    if isinstance(model, Mapping) and isinstance(model.get("name"), str):
        defaults = as_json(networks.field_defaults(model["name"]))
        block = whole.get("data")
        name = block.get("dataset") if isinstance(block, Mapping) else None
        spec = data.SPECS.get(str(name))
        if spec is not None and "num_classes" in defaults:
            defaults["num_classes"] = spec.num_classes
        whole["model"] = defaults | dict(model)
    return whole


def _merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**defaults, **given}
    for name, default in defaults.items():
        value = merged[name]
        if isinstance(default, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(default, value)
    return merged


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested fields as one dict by their dotted names.

    >>> flatten({"seed": 0, "log": {"n": 1}})
    {'seed': 0, 'log.n': 1}
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
