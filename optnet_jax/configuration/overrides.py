"""Overrides of a config's fields on the command line: ``--config.field=value``.

A text is read as the kind of value that stands in the config; where the field is one of
``config.model``, which the config file may leave out, as the network has it. Whether a
run can mean the value is said where the config becomes a Block.
"""

import ast
import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from absl import logging
from ml_collections import ConfigDict

from optnet_jax.configuration.block import add_missing, kinds_of
from optnet_jax.configuration.train import TrainConfig
from optnet_jax.errors import InputError, closest, one_line
from optnet_jax.kinds import convert

NetworkKinds = Callable[[str], Mapping[str, Any] | None]
"""The name of a network -> the kinds of its fields; none if it is unknown."""

SWITCH = {
    **dict.fromkeys(("true", "t", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "off", "0"), False),
}
_OVERRIDE = re.compile(r"--?(no)?config\.([^=]+)(=.*)?", re.DOTALL)
_FLAG = re.compile(r"--?([A-Za-z]|$)")
_NAME = "model.name"


def add_defaults(config: ConfigDict) -> None:
    """Give a training config the fields that its file leaves out, to be overridden."""
    if trains(config):
        with config.unlocked():
            add_missing(config, {**TrainConfig.defaults(), "model": {}})


def trains(config: ConfigDict) -> bool:
    """Say whether a config is of a training run, and none of a study."""
    experiment = config.get("experiment", "train")
    return isinstance(experiment, str) and experiment == "train"


def override(config: ConfigDict, argv: Sequence[str], kinds: NetworkKinds) -> list[str]:
    """Set the fields of a config that a command line names.

    Args:
        config: The config, changed in place; a training config gets its defaults, too.
        argv: The command line.
        kinds: What a network's fields hold; asked if one of them is set.

    Returns:
        The command line without these overrides. It is said which fields another
        network takes over from the file.

    Raises:
        InputError: for a field that there is not, with the nearest one, for a field
            without a value, or for a text of another kind.
    """
    add_defaults(config)
    given, rest = [], []
    arguments = list(argv)
    while arguments:
        argument = arguments.pop(0)
        match = _OVERRIDE.fullmatch(argument)
        if match is None or (match[1] and match[3]):
            rest.append(argument)
            continue
        _check_field(config, match[2])
        text = match[3] and match[3][1:]
        if text is None and not match[1] and arguments:
            text = None if _FLAG.match(arguments[0]) else arguments.pop(0)
        given.append((match[2], text, argument))
    model = config.get("model")
    before = model.get("name") if isinstance(model, ConfigDict) else None
    with config.unlocked(), config.ignore_type():
        # The network's name first: the others are fields of that one.
        for field, text, argument in sorted(given, key=lambda of: of[0] != _NAME):
            kind = _kind(config, field, kinds)
            if text is None:
                if kind not in (bool, Any):
                    raise InputError(
                        f"{argument} has no value: write --config.{field}=VALUE"
                    )
                text = str(not argument.lstrip("-").startswith("no"))
            value = from_text(text, kind, f"--config.{field}")
            try:
                config.update_from_flattened_dict({field: value})
            except (KeyError, AttributeError, TypeError, ValueError) as error:
                raise InputError(f"{argument}: {one_line(error)}") from error
    set_here = {field for field, *_ in given}
    if _NAME in set_here and config.get(_NAME) != before:
        # Those that the new network lacks are refused where it is made.
        name = str(config.get(_NAME))
        known = kinds(name) or {}
        kept = {f"model.{field}" for field in config.model if field in known} - set_here
        if kept:
            logging.warning(
                "what the config's file sets holds for %s, too: %s",
                name,
                ", ".join(sorted(kept)),
            )
    return rest


def _check_field(config: ConfigDict, field: str) -> None:
    """Refuse a field that there is not; ``config.model`` has those of its network."""
    known = list(fields(config))
    block, _, name = field.rpartition(".")
    inner = [other for other in known if other.startswith(f"{field}.")]
    if field == "model" and field in known:
        inner = inner or [_NAME]  # its file may leave the network to the command line
    if inner:
        raise InputError(
            f"--config.{field} is a block: set its fields, such as --config.{inner[0]}"
        )
    if field in known or (block == "model" and name and "model" in known):
        return
    hint = meant(config, field)
    if not hint:
        beside = [other for other in known if other.rpartition(".")[0] == block]
        hint = f"there are {', '.join(sorted(beside or known))}"
    raise InputError(f"--config.{field}: there is no such config field; {hint}")


def meant(config: ConfigDict, name: str) -> str:
    """Ask whether a name was meant as the nearest field that can be set, if any."""
    known = list(fields(config))
    blocks = {other.rpartition(".")[0] for other in known}
    close = closest(name, [other for other in known if other not in blocks])
    return f"did you mean --config.{close}?" if close else ""


def _kind(config: ConfigDict, field: str, kinds: NetworkKinds) -> Any:
    """Say what a text is read as."""
    block, _, name = field.rpartition(".")
    if block == "model" and field != _NAME:
        return (kinds(str(config.get(_NAME))) or {}).get(name, Any)
    kind: Any = TrainConfig if trains(config) else None
    for part in field.split("."):
        kind = kinds_of(kind).get(part) if dataclasses.is_dataclass(kind) else None
    if kind is not None:
        return kind
    value = config.get(field)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int | float
    return type(value) if isinstance(value, bool | str | tuple) else Any


def fields(tree: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields, inner ones included.

    >>> list(fields({"seed": 0, "data": {"batch_size": 64}}))
    ['seed', 'data', 'data.batch_size']
    """
    for name, value in tree.items():
        yield f"{prefix}{name}"
        if isinstance(value, ConfigDict | dict):
            yield from fields(value, f"{prefix}{name}.")


def from_text(text: str, kind: Any, name: str) -> Any:
    """Read the value of a field that is given as text.

    Raises:
        InputError: for a text that is none of the field's kind.

    >>> from_text("off", bool, "tied"), from_text("none", int | None, "group")
    (False, None)
    >>> from_text("4,4", tuple[int, ...], "sizes"), from_text("1.0", str, "version")
    ((4, 4), '1.0')
    >>> from_text("none", typing.Literal["pad", "none"], "shortcut")
    'none'
    >>> names = str | tuple[str, ...]
    >>> from_text("tanh", names, "phi"), from_text("tanh,relu", names, "phi")
    ('tanh', ('tanh', 'relu'))
    """
    problem: InputError | None = None
    for value in _readings(text, kind):
        try:
            return convert(value, kind, name)
        except InputError as error:
            problem = problem or error  # of what it most likely means
    if problem:
        raise problem
    return convert(text, kind, name)


def _readings(text: str, kind: Any) -> Iterator[Any]:
    """Yield what a text may mean where some kind is wanted, the likeliest first."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        yield from _readings(text, arguments[0])
    elif origin in (typing.Union, types.UnionType):
        # Text may be anything; a word is a tuple only where it can be nothing else.
        word = "," not in text
        for argument in sorted(
            arguments, key=lambda k: (word and typing.get_origin(k) is tuple, k is str)
        ):
            yield from _readings(text, argument)
    elif kind is bool and text.lower() in SWITCH:
        yield SWITCH[text.lower()]
    elif kind is type(None) and text.lower() == "none":
        yield None
    elif kind is str or text in arguments:
        yield text
    elif kind is not bool:
        literal = python_value(text)
        is_tuple = (origin or kind) is tuple
        if literal is not text or not is_tuple:
            yield literal
        if is_tuple:
            words = tuple(filter(None, (word.strip() for word in text.split(","))))
            yield words if literal is text else (literal,)


def python_value(text: str) -> Any:
    """Return what a text is in Python, the text itself if it is nothing there."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)
