"""Train, evaluate or summarise an experiment that a config describes.

    python -m optnet_jax.main --config=configs/digits_agd.py

Any field of the config is a flag: --config.optimizer.learning_rate=0.05.
"""

import functools
import importlib.util
import os
import pkgutil
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from optnet_jax import configuration
from optnet_jax.configuration import Block, Config
from optnet_jax.configuration.train import Name
from optnet_jax.errors import InputError, shown
from optnet_jax.runs import program

MODES = ("train", "eval", "summary")

_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Directory of the run; runs/<config name> by default."
)
_MODE = flags.DEFINE_enum(
    "mode", "train", MODES, "Train, evaluate a checkpoint, or show the network."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the processes of a TPU pod, Slurm or MPI job."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", "", "host:port of process 0, on plain hosts."
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "Number of processes, on plain hosts.", lower_bound=1
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Index of this process, on plain hosts.", lower_bound=0
)
_HEARTBEAT = flags.DEFINE_integer(
    "heartbeat_timeout",
    100,
    "Seconds of silence after which a process counts as lost, and all end.",
    lower_bound=1,
)

HELP = ("-h", "--h", "-help", "--help", "--helpshort", "-helpfull", "--helpfull", "-?")

# Filled by parse_flags: ml_collections wants the config before it defines its flag.
_CONFIG: dict[str, Config] = {}


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parse the command line.

    Args:
        argv: The command line, program first.

    Returns:
        The arguments that are no flags: the program.

    Raises:
        InputError: for a mistake in it.
    """
    try:
        return _parse(list(argv))
    except (flags.Error, AttributeError, TypeError, ValueError) as error:
        raise InputError(configuration.one_line(error)) from error


def _parse(argv: list[str]) -> list[str]:
    value, rest = _take_config(argv)
    asked = [argument for argument in rest if argument in HELP]
    if value is None and asked:
        _help({}, asked)
    if value is None:
        raise InputError(
            "--config is missing: give one of "
            + ", ".join(f"configs/{name}" for name in configuration.packaged_configs())
        )
    loaded = configuration.load(value)
    config = loaded if type(loaded) is ConfigDict else ConfigDict(dict(loaded.items()))
    configuration.add_defaults(config)
    if asked:
        _help(config, asked)
    configuration.check_fields(config, rest)
    rest = configuration.add_model_fields(config, rest, _network_kinds)
    holder = config_flags.DEFINE_config_dict(
        "config", config, sys_argv=rest, flag_values=flags.FLAGS
    )
    try:
        leftover = flags.FLAGS(configuration.settle_switches(rest, flags.FLAGS))
    except flags.IllegalFlagValueError as error:
        raise InputError(_wrong_type(config, str(error))) from error
    if len(leftover) > 1:
        raise InputError(
            f"{leftover[1]!r} is not a flag: write --config=FILE, --workdir=DIR or "
            "--config.field=value"
        )
    if not flags.FLAGS["verbosity"].present:
        # Orbax tells pages at INFO; --verbosity=0 shows them.
        logging.set_verbosity(logging.WARNING)
    # The workdir is named after it, before the rest is checked.
    configuration.convert(holder.value.get("name"), Name, "config.name")
    _CONFIG["config"] = holder.value
    return leftover


def _help(config: Config, asked: Sequence[str]) -> NoReturn:
    """Print the flags, and the fields of the config if one is given; end well."""
    module = flags.FLAGS.find_module_defining_flag("workdir")
    everything = any("helpfull" in argument for argument in asked)
    print(__doc__)
    print(flags.FLAGS.get_help() if everything else flags.FLAGS.module_help(module))
    print("\n  --config: Config file, or FILE:argument=value,..; see configs/.")
    for field in configuration.fields(config):
        value = _value(config, field)
        if not isinstance(value, ConfigDict):
            print(f"  --config.{field}: {value!r} here")
    sys.exit(0)


def _value(config: Config, field: str) -> Any:
    return functools.reduce(lambda tree, name: tree[name], field.split("."), config)


def _network_kinds(name: str) -> Mapping[str, Any]:
    """The kinds of a network's fields; only a command line with some needs them."""
    from optnet_jax import networks

    return networks.field_kinds(name)


def _wrong_type(config: Config, message: str) -> str:
    """Add the type that a field has to absl's message about its value."""
    match = re.search(r"--config\.([\w.]+)=", message)
    if match is None:
        return message
    value = _value(config, match[1])
    return f"{message}: its type is {type(value).__name__}, as of {shown(value)}"


def _take_config(argv: list[str]) -> tuple[str | None, list[str]]:
    """Split ``--config=FILE`` (or ``--config FILE``) from the other arguments."""
    value, rest, arguments = None, argv[:1], iter(argv[1:])
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if name in ("--config", "-config"):
            value = text if equals else next(arguments, None)
        else:
            rest.append(argument)
    return value, rest


def main(argv: Sequence[str]) -> None:
    """Run what the config describes."""
    del argv
    config = _CONFIG["config"]
    workdir = _WORKDIR.value or str(Path("runs") / config.name)
    workdir = str(configuration.local_path(workdir, "--workdir"))
    if _MODE.value == "summary":
        run(config, workdir, "summary")
        return
    # Said before the imports, which take seconds.
    print(f"{config.name}: {_MODE.value} in {workdir}; loading", flush=True)
    _prepare_devices(config)
    from optnet_jax.runs import distributed

    with distributed.together():
        run(config, workdir, _MODE.value)


def run(config: Config, workdir: str, mode: str) -> None:
    """Dispatch to the room that does the work.

    Args:
        config: The config; ``config.experiment`` is ``train`` or the name of a study.
        workdir: Directory of the run.
        mode: ``train``, ``eval`` or ``summary``.

    Raises:
        InputError: if there is no such experiment, or from the work itself.
    """
    workdir = str(configuration.local_path(workdir, "workdir"))
    if mode == "summary":
        _summarize(config, workdir)
        return
    fields = config.as_mapping() if isinstance(config, Block) else config
    experiment = fields.get("experiment", "train")
    if experiment != "train" and (study := _study(experiment)):
        if mode != "train":
            raise InputError(
                f"{experiment} is a study, which has no checkpoint to evaluate: leave "
                f"out --mode={mode} to run it, or to see its report again"
            )
        _refuse_several_processes(experiment)
        study.run(config, workdir)
        return
    if experiment != "train":
        raise InputError(
            f"config.experiment={shown(experiment)} is unknown: use train, "
            + ", ".join(_studies())
        )
    if mode == "eval":
        from optnet_jax.training import evaluate

        evaluate.evaluate_checkpoint(config, workdir)
        return
    from optnet_jax.training import loop

    loop.train(config, workdir)
    _draw(workdir)


def _study(name: Any) -> Any:
    """The ``STUDY`` of the module of that name in ``studies/``; None if it has none."""
    if not isinstance(name, str) or not name.isidentifier():
        return None
    module = f"optnet_jax.studies.{name}"
    if importlib.util.find_spec(module) is None:
        return None
    return getattr(importlib.import_module(module), "STUDY", None)


def _studies() -> list[str]:
    from optnet_jax import studies

    names = (module.name for module in pkgutil.iter_modules(studies.__path__))
    return [name for name in names if _study(name)]


def _refuse_several_processes(study: str) -> None:
    from optnet_jax.runs import distributed

    if distributed.group() is not None:
        raise InputError(
            f"the study {study} runs in one process: start it without --distributed "
            "or --coordinator_address"
        )


def _prepare_devices(config: Config) -> None:
    """What must be said before JAX touches a device."""
    if config.get("deterministic", False):
        from optnet_jax.runs import determinism

        os.environ["XLA_FLAGS"] = determinism.flags(os.environ.get("XLA_FLAGS", ""))
    from optnet_jax.runs import distributed, memory

    distributed.initialize(
        _DISTRIBUTED.value,
        _COORDINATOR.value,
        _NUM_PROCESSES.value,
        _PROCESS_ID.value,
        _HEARTBEAT.value,
    )
    memory.keep_freed_memory()


def _summarize(config: Config, workdir: str) -> None:
    # On standard error: the table may be redirected.
    program.tell(
        "tracing the network; one of hundreds of layers takes minutes", sys.stderr
    )
    from optnet_jax.inspect import figure
    from optnet_jax.training import summary

    print(summary.summarize(config), flush=True)
    network, _ = summary.network(config)
    if isinstance(network, figure.DRAWABLE):
        file = Path(workdir) / "plots" / "structure.png"
        figure.draw_network(network, file)
        print(f"drawn: {file}", flush=True)


def _draw(workdir: str) -> None:
    import jax

    from optnet_jax.studies import figures

    if jax.process_index() == 0:
        for path in figures.draw(Path(workdir)):
            print(f"drawn: {path}", flush=True)


if __name__ == "__main__":
    with program.edge():
        app.run(main, flags_parser=parse_flags)
