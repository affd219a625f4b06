"""Time the package: ``python -m optnet_jax.benchmarks SUITE [options]``.

    python -m optnet_jax.benchmarks
    python -m optnet_jax.benchmarks networks --networks=resnet56 --json=FILE
    python -m optnet_jax.benchmarks depth --markdown=FILE.md

Without a suite it lists them. On a CPU one core is used and the process's CPU time is
measured, which other processes do not lengthen. What is compared takes turns: ours in
one process, PyTorch in another.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path

from optnet_jax.benchmarks import depth, networks, tpu
from optnet_jax.benchmarks.suite import Suite
from optnet_jax.benchmarks.timing import has_torch
from optnet_jax.configuration import local_path
from optnet_jax.errors import InputError
from optnet_jax.runs import devices, program
from optnet_jax.runs.files import is_folder, make_folder, write_output
from optnet_jax.training.result import describe_devices, versions

SUITES: dict[str, Suite] = {
    suite.name: suite for suite in (*networks.SUITES, *depth.SUITES, tpu.SUITE)
}
CURE = "give the file another place"


def main(argv: Sequence[str] | None = None) -> None:
    """Run a suite, or list them.

    Raises:
        InputError: options that cannot be run.
    """
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.suite is None:
        parser.print_help()
        return
    run(SUITES[options.suite], options)


def make_parser() -> program.Parser:
    """Return the parser, in which each suite is a command."""
    parser = program.Parser(
        "python -m optnet_jax.benchmarks", description="Time the package."
    )
    commands = parser.add_subparsers(dest="suite", title="suites", metavar="SUITE")
    for name, suite in SUITES.items():
        text = suite.answers
        command = commands.add_parser(name, help=text, description=f"Measure {text}.")
        suite.add_options(command)
        command.add_argument("--json", default="", help="file for the measurements")
        command.add_argument("--markdown", default="", help="file for the table")
    return parser


def run(suite: Suite, options: argparse.Namespace) -> None:
    """Run a suite; print and write what it measured.

    Raises:
        InputError: options that cannot be run, or a file that cannot be written.
    """
    places = {
        name: _writable(text, f"--{name}")
        for name in ("json", "markdown")
        if (text := getattr(options, name))
    }
    if suite.beside_torch and not has_torch():
        print("PyTorch is not installed: only ours is measured")
    if suite.one_core and hasattr(os, "sched_setaffinity"):
        # Before JAX starts: its thread pool is as large as the set of cores.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    # A GPU's memory is shared with PyTorch's process: JAX takes what it needs of it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    devices.use_onednn()
    if not suite.repeats:
        devices.stay_on_the_cpu()
    devices.keep_freed_memory()
    rows = suite.run(options)
    result = {"suite": suite.name, "environment": environment(), "rows": rows}
    head = ", ".join(f"{key} {value}" for key, value in result["environment"].items())
    text = f"{head}\n\n{suite.markdown(rows)}\n"
    print(text)
    contents = {"json": f"{json.dumps(result, indent=2)}\n", "markdown": text}
    for name, place in places.items():
        write_output(place, contents[name].encode(), CURE)


def _writable(text: str, option: str) -> Path:
    """Return where a file is to be, found out before hours of measurement."""
    place = local_path(text, option)
    if is_folder(place):
        raise InputError(f"{option}={place} is a folder: {CURE}")
    try:
        make_folder(place.parent)
        tempfile.TemporaryFile(dir=place.parent).close()
    except OSError as error:
        raise InputError(
            f"{option}={place} cannot be written ({error.strerror}): {CURE}"
        ) from error
    return place


def environment() -> dict[str, str]:
    """Return what the numbers depend on."""
    return {
        "date": datetime.date.today().isoformat(),
        "device": describe_devices(),
        "processor": _processor(),
        **versions(),
        **({"torch": importlib.metadata.version("torch")} if has_torch() else {}),
    }


def _processor() -> str:
    """Return the processor's name: Linux has it nowhere else, and macOS not there."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text("utf-8").splitlines() if file.exists() else ()
    names = (line.partition(": ")[2] for line in lines if "model name" in line)
    return next(names, platform.processor() or platform.machine())


if __name__ == "__main__":
    with program.edge():
        main()
