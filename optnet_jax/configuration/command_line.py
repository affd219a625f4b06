"""The command line of a program that takes a config: ``--config=FILE`` and its fields.

ml_collections defines a flag for each field; it wants the config before that, so
``--config`` is taken from the command line first.
"""

import functools
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from optnet_jax.configuration import overrides
from optnet_jax.configuration.files import load, packaged_configs
from optnet_jax.configuration.train import Name
from optnet_jax.errors import InputError, one_line, shown
from optnet_jax.kinds import convert

HELP = ("-h", "--h", "-help", "--help", "--helpshort", "-helpfull", "--helpfull", "-?")

NetworkKinds = Callable[[str], Mapping[str, Any]]
"""The name of a network -> the kinds of its fields; none if it is unknown."""


def parse(
    argv: Sequence[str], known: flags.FlagValues, usage: str, kinds: NetworkKinds
) -> list[str]:
    """Parse a command line; the config is then the value of the flag ``config``.

    Args:
        argv: The command line, program first.
        known: The program's flags, parsed in place.
        usage: What ``--help`` says first.
        kinds: What a network's fields hold; only a command line with some asks.

    Returns:
        The arguments that are no flags: the program.

    Raises:
        InputError: for a mistake in it.
    """
    value, rest = _take_config(argv)
    asked = [argument for argument in rest if argument in HELP]
    if value is None and asked:
        _help(known, usage, {}, asked)
    if value is None:
        raise InputError(
            "--config is missing: give one of "
            + ", ".join(f"configs/{name}" for name in packaged_configs())
        )
    config = load(value)
    if asked:
        overrides.add_defaults(config)
        _help(known, usage, config, asked)
    config, leftover = override(config, rest, known, kinds)
    if len(leftover) > 1:
        raise InputError(
            f"{leftover[1]!r} is not a flag: write --config=FILE, --workdir=DIR or "
            "--config.field=value"
        )
    if not known["verbosity"].present:
        # Orbax tells pages at INFO; --verbosity=0 shows them.
        logging.set_verbosity(logging.WARNING)
    # The workdir is named after it, before the rest is checked.
    convert(config.get("name"), Name, "config.name")
    return leftover


def override(
    config: ConfigDict,
    argv: Sequence[str],
    known: flags.FlagValues,
    kinds: NetworkKinds,
    *,
    known_only: bool = False,
) -> tuple[ConfigDict, list[str]]:
    """Set the fields of a config that a command line names.

    Args:
        config: The config, changed in place.
        argv: The command line, program first.
        known: Its other flags; gets ``config``.
        kinds: What a network's fields hold.
        known_only: Let flags pass that are not known.

    Returns:
        The config, and the arguments that are no flags.

    Raises:
        InputError: for a field that there is not, or a value of another kind.
    """
    try:
        overrides.add_defaults(config)
        overrides.check_fields(config, argv)
        rest = overrides.add_model_fields(config, argv, kinds)
        holder = config_flags.DEFINE_config_dict(
            "config", config, sys_argv=rest, flag_values=known
        )
        settled = overrides.settle_switches(rest, known)
        leftover = known(settled, known_only=known_only)
        return holder.value, leftover
    except flags.IllegalFlagValueError as error:
        raise InputError(_wrong_type(config, one_line(error))) from error
    except (flags.Error, AttributeError, TypeError, ValueError) as error:
        raise InputError(one_line(error)) from error


def _help(
    known: flags.FlagValues,
    usage: str,
    config: Mapping[str, Any] | ConfigDict,
    asked: Sequence[str],
) -> NoReturn:
    """Print the flags, and the fields of the config if one is given; end well."""
    module = known.find_module_defining_flag("workdir")
    everything = any("helpfull" in argument for argument in asked)
    print(usage)
    print(known.get_help() if everything else known.module_help(module))
    print("\n  --config: Config file, or FILE:argument=value,..; see configs/.")
    for field in overrides.fields(config):
        value = _value(config, field)
        if not isinstance(value, ConfigDict):
            print(f"  --config.{field}: {value!r} here")
    sys.exit(0)


def _value(config: Any, field: str) -> Any:
    return functools.reduce(lambda tree, name: tree[name], field.split("."), config)


def _wrong_type(config: ConfigDict, message: str) -> str:
    """Add the type that a field has to absl's message about its value."""
    match = re.search(r"--config\.([\w.]+)=", message)
    if match is None:
        return message
    value = _value(config, match[1])
    return f"{message}: its type is {type(value).__name__}, as of {shown(value)}"


def _take_config(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """Split ``--config=FILE`` (or ``--config FILE``) from the other arguments."""
    value, rest, arguments = None, list(argv[:1]), iter(argv[1:])
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if name in ("--config", "-config"):
            value = text if equals else next(arguments, None)
        else:
            rest.append(argument)
    return value, rest
