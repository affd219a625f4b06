"""Train, evaluate or summarise an experiment that a config describes.

    python -m optnet_jax.main --config=configs/digits_agd.py

Any field of the config is a flag: --config.optimizer.learning_rate=0.05.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from optnet_jax.configuration import command_line, local_path
from optnet_jax.runs import program
from optnet_jax.studies.dispatch import MODES, computes, run

_CONFIG = flags.DEFINE_string(
    "config", None, "Config file, or FILE:argument=value,..; see configs/."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Directory of the run; runs/<config name> by default."
)
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    MODES,
    "Train, evaluate a checkpoint, show the network, classify images, or write the "
    "trained network for other programs. Of a study: run it, report on what is there, "
    "or show what is left.",
)
_IMAGES = flags.DEFINE_multi_string(
    "images", [], "With --mode=predict: a file or a folder; may be given often."
)
_TOPOLOGY = flags.DEFINE_string(
    "topology", "", "With --mode=summary: TPUs to compile for, such as v5e:4x4."
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


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parse the command line; see :func:`.command_line.parse`."""
    return command_line.parse(argv, flags.FLAGS, __doc__ or "", _network_kinds)


def _network_kinds(name: str) -> Mapping[str, Any]:
    from optnet_jax import networks

    return networks.field_kinds(name)


def main(argv: Sequence[str]) -> None:
    """Run what the config describes."""
    del argv
    config: Any = _CONFIG.value  # the config itself, by command_line.parse
    workdir = _WORKDIR.value or str(Path("runs") / config.name)
    workdir = str(local_path(workdir, "--workdir"))
    if _MODE.value != "summary":
        # Said before the imports, which take seconds.
        print(f"{config.name}: {_MODE.value} in {workdir}; loading", flush=True)
    from optnet_jax.runs import devices

    own = computes(config, _MODE.value)
    if not own:
        devices.stay_on_the_cpu()
    if _MODE.value == "summary":
        run(config, workdir, "summary", _TOPOLOGY.value, _IMAGES.value)
        return
    from optnet_jax.runs import compilation, distributed

    if config.get("deterministic", False):
        devices.make_repeatable()
    if config.get("onednn", False):  # studies compute no convolutions
        devices.use_onednn()
    distributed.initialize(
        _DISTRIBUTED.value,
        _COORDINATOR.value,
        _NUM_PROCESSES.value,
        _PROCESS_ID.value,
        _HEARTBEAT.value,
    )
    with distributed.together():
        devices.keep_freed_memory()
        kept = config.get("compilation_cache", True) and devices.can_keep_programs()
        compilation.keep_programs(kept)
        if own:
            devices.say_library()
        run(config, workdir, _MODE.value, _TOPOLOGY.value, _IMAGES.value)


def console() -> None:
    """Run the program: ``optnet-jax`` and ``python -m optnet_jax.main``."""
    # `python -m` finds modules where it is started; a script looks in its own folder.
    if not sys.flags.safe_path:
        sys.path.insert(0, "")
    with program.edge():
        app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    console()
