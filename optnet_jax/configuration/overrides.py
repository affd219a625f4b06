"""Overrides of a config's fields on the command line.

ml_collections does the parsing; this file looks at the overrides before it does, whose
own errors run over a page, and reads those of ``config.model``, whose fields may be
absent from the config file: the network says what they hold.
"""

import ast
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from absl import flags
from ml_collections import ConfigDict

from optnet_jax.configuration.train import TrainConfig
from optnet_jax.errors import InputError, closest
from optnet_jax.kinds import convert

OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)(?:=(.*))?", re.DOTALL)
NAME = "model.name"
SWITCH = {
    **dict.fromkeys(("true", "t", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "off", "0"), False),
}


def overrides(argv: Sequence[str]) -> Iterator[tuple[int, str, str | None]]:
    """Find ``--config.field=value`` on a command line.

    Yields:
        Position in ``argv``, dotted field, and the text after ``=`` (``None`` without).
    """
    for index, argument in enumerate(argv):
        match = OVERRIDE.fullmatch(argument)
        if match:
            yield index, match[1], match[2]


def add_defaults(config: ConfigDict) -> None:
    """Give a training config the fields that its file leaves out, to be overridden."""
    experiment = config.get("experiment", "train")
    if isinstance(experiment, str) and experiment == "train":
        with config.unlocked():
            _add(config, TrainConfig.defaults())


def _add(config: ConfigDict, defaults: Mapping[str, Any]) -> None:
    for name, value in defaults.items():
        inner = config.get(name)
        if name not in config:
            config[name] = value
        elif isinstance(value, dict) and isinstance(inner, ConfigDict):
            _add(inner, value)


def check_fields(config: ConfigDict, argv: Sequence[str]) -> None:
    """Refuse overrides of fields that a config does not have.

    ``config.model`` is open: a field of the network that the config file leaves at its
    default may be set, and the network itself refuses what it does not know.

    Raises:
        InputError: naming the nearest field.
    """
    known = list(fields(config))
    for _, field, _ in overrides(argv):
        if field.startswith("model."):
            continue
        inner = list(filter(_inside(field), known))
        if inner:
            raise InputError(
                f"--config.{field} is a block: set its fields, such as "
                f"--config.{inner[0]}"
            )
        if field in known:
            continue
        leaves = [name for name in known if not any(map(_inside(name), known))]
        close = closest(field, leaves)
        if close:
            hint = f"did you mean --config.{close}?"
        else:
            block = field.rpartition(".")[0]
            beside = list(filter(_inside(block), known)) if block else known
            first = {name.removeprefix(f"{block}.").split(".")[0] for name in beside}
            hint = f"there are {', '.join(sorted(first or known))}"
        raise InputError(f"--config.{field}: there is no such config field; {hint}")


def _inside(block: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(f"{block}.")


def fields(tree: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields, inner ones included.

    >>> list(fields({"seed": 0, "data": {"batch_size": 64}}))
    ['seed', 'data', 'data.batch_size']
    """
    for name, value in tree.items():
        yield f"{prefix}{name}"
        if isinstance(value, ConfigDict | dict):
            yield from fields(value, f"{prefix}{name}.")


def add_model_fields(
    config: ConfigDict, argv: Sequence[str], kinds: Callable[[str], Mapping[str, Any]]
) -> list[str]:
    """Set the model's fields that a command line names.

    Args:
        config: The config, changed in place.
        argv: The command line.
        kinds: The name of a network -> the kinds of its fields; none if it is unknown,
            which is said where the network is built.

    Returns:
        The command line without these overrides.

    Raises:
        InputError: for a text that is none of the field's kind.
    """
    given = [item for item in overrides(argv) if item[1].startswith("model.")]
    if not given:
        return list(argv)
    done = set()
    with config.unlocked():
        if "model" not in config:
            config.model = ConfigDict()
        model: Any = config.model
        # The name first: the others are fields of that network.
        for index, field, text in sorted(given, key=lambda item: item[1] != NAME):
            name = field.removeprefix("model.")
            known = kinds(str(model.get("name")))
            kind = str if field == NAME else known.get(name, Any)
            done.add(index)
            if text is None and kind is not bool and index + 1 < len(argv):
                text = argv[index + 1]
                done.add(index + 1)
            # Another kind than the file's value has may be right.
            if name in model:
                del model[name]
            if text is None:
                model[name] = not argv[index].lstrip("-").startswith("no")
            else:
                model[name] = from_text(text, kind, f"--config.{field}")
    return [argument for index, argument in enumerate(argv) if index not in done]


def settle_switches(argv: Sequence[str], known: flags.FlagValues) -> list[str]:
    """Write every boolean flag's value as absl reads it: ``off`` becomes ``False``.

    Raises:
        InputError: for a text that is neither true nor false.
    """
    settled = []
    for argument in argv:
        flag, equals, text = argument.partition("=")
        name = flag.lstrip("-")
        if name != flag and equals and name in known and known[name].boolean:
            argument = f"{flag}={from_text(text, bool, flag)}"
        settled.append(argument)
    return settled


def from_text(text: str, kind: Any, name: str) -> Any:
    """Read the value of a field that is given as text.

    Raises:
        InputError: for a text that is none of the field's kind.

    >>> from_text("off", bool, "tied"), from_text("none", int | None, "group")
    (False, None)
    >>> from_text("4,4", tuple[int, ...], "sizes"), from_text("1.0", str, "version")
    ((4, 4), '1.0')
    """
    for value in _readings(text, kind):
        try:
            return convert(value, kind, name)
        except InputError:
            continue
    return convert(text, kind, name)


def _readings(text: str, kind: Any) -> Iterator[Any]:
    """Yield what a text may mean where some kind is wanted, the likeliest first."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        yield from _readings(text, arguments[0])
    elif origin in (typing.Union, types.UnionType):
        for argument in sorted(arguments, key=lambda k: k is str):
            yield from _readings(text, argument)
    elif kind is bool and text.lower() in SWITCH:
        yield SWITCH[text.lower()]
    elif kind is type(None) and text.lower() == "none":
        yield None
    elif kind is str:
        yield text
    elif kind is not bool:
        literal = _literal(text)
        if kind is not Any and literal is text and (origin or kind) is tuple:
            literal = tuple(filter(None, (word.strip() for word in text.split(","))))
        yield literal


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)
