"""Blocks of fields: frozen dataclasses whose annotations are what is checked.

A config comes from a file, a command line or Python as an ml_collections.ConfigDict or
a dict. ``TrainConfig.of(config)`` turns it into frozen dataclasses once, where a run
begins; whatever is wrong with it, an unknown field included, is said there.
"""

import dataclasses
import functools
import json
import re
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from optnet_jax.errors import InputError, closest, shown
from optnet_jax.kinds import as_mapping, convert


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """Some fields that belong together; a subclass annotates each with its kind.

    Every instance is checked, also one that is made from Python or by
    ``dataclasses.replace``.

    Attributes:
        path: Of the class: the block's dotted name, with a dot at its end; empty for a
            whole config.
        free: Of a whole config: dotted names of fields and blocks that may change
            between two starts of one run: where things are and how often they are
            written, never what is computed.
    """

    path: ClassVar[str]
    free: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, path: str = "") -> None:
        cls.path = path

    def __post_init__(self) -> None:
        for name, kind in kinds_of(type(self)).items():
            value = getattr(self, name)
            if isinstance(kind, type) and issubclass(kind, Block):
                value = kind.of(value)
            else:
                value = convert(value, kind, f"config.{self.path}{name}")
            object.__setattr__(self, name, value)
        self.check()

    def check(self) -> None:
        """Raise InputError for fields that do not fit together."""

    @classmethod
    def of(cls, config: Any) -> Self:
        """Return the checked block.

        Args:
            config: An ``ml_collections.ConfigDict``, a dict, or such a block already.

        Raises:
            InputError: for an unknown or missing field, a value of another kind or out
                of its range, or fields that do not fit together.
        """
        if isinstance(config, cls):
            return config
        fields = as_mapping(config)
        known = kinds_of(cls)
        where = f"config.{cls.path}".rstrip(".")
        if fields is None:
            raise InputError(
                f"{where}={shown(config)} must be a block with the fields "
                f"{', '.join(known)}"
            )
        for name in fields:
            if name not in known:
                close = closest(str(name), known)
                hint = f"did you mean {close}? " if close else ""
                wrong = shown(name).strip("'\"")
                raise InputError(
                    f"config.{cls.path}{wrong}: there is no such config "
                    f"field; {hint}there are {', '.join(known)}"
                )
        for name in known:
            if name not in fields and name not in cls.defaults():
                raise InputError(f"{where} lacks the field {name}")
        return cls(**fields)

    def as_mapping(self) -> dict[str, Any]:
        """Return the fields, and those of the blocks within, as dicts."""
        return {name: _as_plain(getattr(self, name)) for name in kinds_of(type(self))}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the fields that have a default, and it, with inner blocks as dicts."""
        return {
            field.name: _as_plain(field.default)
            for field in dataclasses.fields(cls)
            if field.default is not dataclasses.MISSING
        }


def _as_plain(value: Any) -> Any:
    return value.as_mapping() if isinstance(value, Block) else value


@functools.cache
def kinds_of(block: type) -> Mapping[str, Any]:
    """Return the fields of a dataclass, such as a block, and their annotations."""
    hints = typing.get_type_hints(block, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(block)}


def add_missing(config: Any, defaults: Mapping[str, Any]) -> None:
    """Give a config, a ConfigDict or a dict, the fields that it and its blocks lack."""
    for name, value in defaults.items():
        inner = config.get(name)
        if name not in config:
            config[name] = value
        elif isinstance(value, Mapping) and as_mapping(inner) is not None:
            add_missing(inner, value)


def as_json(config: Any) -> dict[str, Any]:
    """Turn a config, of whatever form, into plain JSON types (tuples become lists)."""
    return json.loads(json.dumps(_as_plain(config), default=_describe))


def _describe(value: Any) -> Any:
    """Say what JSON cannot hold in words that are the same in every process."""
    nested = as_mapping(value)
    if nested is not None:
        return dict(nested)
    if hasattr(value, "tolist"):  # an array, whose text would leave numbers out
        return value.tolist()
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
