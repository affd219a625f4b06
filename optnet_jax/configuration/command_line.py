"""The command line of a program that takes a config: ``--config=FILE`` and its fields.

Both are taken from it first; the flags that are left are absl's.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from absl import flags, logging
from ml_collections import ConfigDict

from optnet_jax.configuration import overrides
from optnet_jax.configuration.files import load, packaged_configs
from optnet_jax.configuration.overrides import NetworkKinds
from optnet_jax.configuration.train import Name, TrainConfig
from optnet_jax.errors import InputError, one_line
from optnet_jax.kinds import convert

HELP = ("-h", "--h", "-help", "--help", "--helpshort", "-helpfull", "--helpfull", "-?")


def parse(
    argv: Sequence[str], known: flags.FlagValues, usage: str, kinds: NetworkKinds
) -> list[str]:
    """Parse a command line; the config is then the value of the flag ``config``.

    Args:
        argv: The command line, program first.
        known: The program's flags, parsed in place; ``config`` is one.
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
        _help(known, usage, ConfigDict(), asked)
    if value is None:
        raise InputError(
            "--config is missing: give one of "
            + ", ".join(f"configs/{name}" for name in packaged_configs())
        )
    config = load(value)
    if asked:
        overrides.add_defaults(config)
        _help(known, usage, config, asked)
    rest = overrides.override(config, rest, kinds)
    try:
        leftover = known([*_settled(rest, known)])
    except flags.UnrecognizedFlagError as error:
        line, hint = one_line(error), overrides.meant(config, error.flagname)
        if hint and "Did you mean" not in line:
            line = f"{line}: {hint}"
        raise InputError(line) from error
    except flags.Error as error:
        raise InputError(one_line(error)) from error
    if len(leftover) > 1:
        cure = "write --config=FILE, --workdir=DIR or --config.field=value"
        if "images" in known and known["images"].present:  # what a shell makes of *
            cure = "write --images before each file, or once before their folder"
        raise InputError(f"{leftover[1]!r} is not a flag: {cure}")
    if not known["verbosity"].present:
        # Orbax tells pages at INFO; --verbosity=0 shows them.
        logging.set_verbosity(logging.WARNING)
    # Before anything slow; a study checks its own, but the workdir is named after it.
    convert(config.get("name", ""), Name, "config.name")
    if overrides.trains(config):
        TrainConfig.of(config)
    known.config = config
    return leftover


def _settled(argv: Sequence[str], known: flags.FlagValues) -> Iterator[str]:
    """Write every boolean flag's value as absl reads it: ``off`` becomes ``False``."""
    for argument in argv:
        flag, equals, text = argument.partition("=")
        name = flag.lstrip("-")
        if name != flag and equals and name in known and known[name].boolean:
            argument = f"{flag}={overrides.from_text(text, bool, flag)}"
        yield argument


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
    for field in overrides.fields(config):
        value = config.get(field)
        if not isinstance(value, ConfigDict):
            print(f"  --config.{field}: {value!r} here")
    sys.exit(0)


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
