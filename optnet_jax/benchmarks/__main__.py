"""Time the package: ``python -m optnet_jax.benchmarks [SUITE] [options]``.

    python -m optnet_jax.benchmarks networks --networks=resnet56 --json=FILE
    python -m optnet_jax.benchmarks depth --figure=FILE.png --markdown=FILE.md
    python -m optnet_jax.benchmarks SUITE --help

On a CPU one core is used and the process's CPU time is measured, which other processes
do not lengthen. What is compared takes turns: ours in one process, PyTorch in another.
"""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence

from optnet_jax.benchmarks import activity
from optnet_jax.benchmarks.suite import DrawnSuite, Suite, environment
from optnet_jax.configuration import local_path
from optnet_jax.errors import InputError
from optnet_jax.runs import devices, program
from optnet_jax.runs.files import write_output

SUITES = {
    "networks": "training step and inference of each network, beside PyTorch's",
    "convolutions": "single convolutions and their gradients, beside PyTorch's",
    "depth": "cost of a step of HB-Net against its layers",
    "batch": "cost of a step against the images in it",
    "dense": "cost of a step against the layers of a dense block",
    "simulation": "cost of a step of Table 2's networks against their layers",
    "scaling": "the step on several devices and processes beside that on one",
    "pipelines": "images per second of the input, beside the training step's",
    "table2": "cost of each cell of Table 2 at the paper's size",
    "gpu": "training on an accelerator: shares of its peak, epochs as one program",
}
"""Name of a suite, and of its module -> what it measures."""

CURE = "give the file another place; the table above is what it would hold"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a suite; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    named = bool(arguments) and not arguments[0].startswith("-")
    name = arguments.pop(0) if named else "networks"
    try:
        if name not in SUITES:
            raise InputError(f"no suite is called {name!r}; use {', '.join(SUITES)}")
        with activity.shown():
            _run(name, arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(name: str, arguments: list[str]) -> None:
    activity.begin(f"{name}: load")
    suite: Suite = importlib.import_module(f"optnet_jax.benchmarks.{name}").SUITE
    parser = argparse.ArgumentParser(
        prog=f"python -m optnet_jax.benchmarks {name}",
        description=f"Measure the {SUITES[name]}.",
        epilog=f"Suites: {', '.join(SUITES)}.",
    )
    suite.add_options(parser)
    parser.add_argument("--json", default="", help="file for the measurements")
    parser.add_argument("--markdown", default="", help="file for the table")
    options = parser.parse_args(arguments)
    if suite.one_core and hasattr(os, "sched_setaffinity"):
        # Before JAX starts: its thread pool is as large as the set of cores.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    # A GPU's memory is shared with PyTorch's process: JAX takes what it needs of it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    devices.keep_freed_memory()
    rows = suite.run(options)
    result = {"suite": name, "environment": environment(), "rows": rows}
    head = ", ".join(f"{key} {value}" for key, value in result["environment"].items())
    text = f"{head}\n\n{suite.markdown(rows)}\n"
    print(text)
    if options.json:
        data = f"{json.dumps(result, indent=2)}\n"
        write_output(local_path(options.json, "--json"), data.encode(), CURE)
    if options.markdown:
        write_output(local_path(options.markdown, "--markdown"), text.encode(), CURE)
    if isinstance(suite, DrawnSuite) and options.figure:
        suite.draw(rows, local_path(options.figure, "--figure"))


if __name__ == "__main__":
    with program.edge():
        sys.exit(main())
