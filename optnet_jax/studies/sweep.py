"""Run a whole table of results, or print its commands.

    python -m optnet_jax.studies.sweep digits
    python -m optnet_jax.studies.sweep table4 --seeds=0-4 --print

Runs that are finished with the config that is asked for are skipped, and an interrupted
one goes on where it stopped: the same command continues the sweep.
"""

import itertools
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from optnet_jax import networks
from optnet_jax.configuration import as_json, local_path, overrides
from optnet_jax.errors import InputError
from optnet_jax.runs import program
from optnet_jax.studies.report import entries, runs

PRINTED_PYTHON = "python"


class Planned(NamedTuple):
    """One run of a sweep.

    Attributes:
        workdir: Its directory, ``<root>/<config name>``.
        arguments: Of ``python``.
        config: What it is to be run with, as plain JSON types.
    """

    workdir: Path
    arguments: list[str]
    config: Mapping[str, Any]

    @property
    def command(self) -> str:
        """Its command, to paste into a shell."""
        return shlex.join([PRINTED_PYTHON, *self.arguments])

    def finished(self) -> runs.Run | None:
        """Return what it has left, which `report` will count; ``None`` if nothing.

        Raises:
            InputError: if its directory holds another run, which is not replaced.
        """
        try:
            found = runs.read(self.workdir)
        except InputError:
            return None  # there is none yet, or the run says what is wrong with it
        if not found.result:
            return None
        strange, seed = runs.differences(found, self.config), self.config["seed"]
        if found.seed != seed:
            strange.insert(0, f"seed = {found.seed}, not {seed}")
        if strange:
            raise InputError(
                f"{self.workdir} holds another run ({'; '.join(strange)}): move it "
                "away or choose another --workdir"
            )
        return found


def plan(
    table: entries.Table,
    seeds: Sequence[int],
    root: Path,
    more: Sequence[str] = (),
) -> list[Planned]:
    """List the runs of a table; seed by seed, so that a part of it is a whole table.

    Raises:
        InputError: for a flag that no run could be started with.
    """
    planned = []
    for seed in seeds:
        for cell in table.cells():
            config = cell.get_config(seed)
            workdir = root / config.name
            arguments = ["-m", "optnet_jax.main", f"--config={cell.config_flag(seed)}"]
            arguments += [f"--workdir={workdir}", *more]
            overrides.override(config, more, networks.field_kinds)
            planned.append(Planned(workdir, arguments, as_json(config)))
    return planned


def parse_seeds(text: str) -> list[int]:
    """Read a list of seeds, or refuse what is none.

    >>> parse_seeds("0,3-5")
    [0, 3, 4, 5]
    """
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        raise InputError(f"--seeds={text}: write a list such as 0,1,2 or 0-9")
    ends = [part.split("-") for part in text.split(",")]
    seeds = [range(int(end[0]), int(end[-1]) + 1) for end in ends]
    return list(dict.fromkeys(itertools.chain(*seeds)))


def run_one(arguments: Sequence[str]) -> int:
    """Run a command and return its status; a request to stop is handed on, waited for.

    Raises:
        Interrupted: after a signal, when the command has ended.
    """
    command = [sys.executable, *arguments]
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except program.Interrupted as stop:
            # A terminal's Ctrl-C has reached the command already.
            if stop.name != "SIGINT":
                process.terminate()
            raise


def run_all(
    planned: Sequence[Planned], start: Callable[[Sequence[str]], int] = run_one
) -> list[Planned]:
    """Run what is not finished yet, after one that fails too; return those that do.

    ``start`` runs a command, given its arguments, and returns its exit status.
    """
    failed = []
    for number, run in enumerate(planned, 1):
        head = f"[{number}/{len(planned)}] {run.workdir.name}"
        try:
            outcome = "finished before" if run.finished() else _run(run, head, start)
        except InputError as error:
            outcome = str(error)
            failed.append(run)
        print(f"{head}: {outcome}", flush=True)
    return failed


def _run(run: Planned, head: str, start: Callable[[Sequence[str]], int]) -> str:
    """Run what is not finished; returns its errors, or raises where it has none."""
    print(f"{head}: {run.command}", flush=True)
    began = time.monotonic()
    status = start(run.arguments)
    seconds = f"({time.monotonic() - began:.0f} s)"
    found = run.finished()
    if found is None:
        raise InputError(f"failed with status {status} {seconds}")
    last, best = found.error("final"), found.error("best")
    return f"top-1 error {last:.2f} % (best {best:.2f} %) {seconds}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run or print a table; returns 1 if a run failed."""
    parser = program.Parser(
        prog="python -m optnet_jax.studies.sweep",
        usage="%(prog)s TABLE [--print] [--seeds=...] [--workdir=...] [-- FLAGS]",
        description="Run a whole table of results; what is finished is skipped.",
        epilog="FLAGS go to optnet_jax.main in every run.",
    )
    parser.add_argument("table", help=", ".join(entries.TABLES))
    parser.add_argument(
        "--print", action="store_true", help="print the commands that are left"
    )
    parser.add_argument(
        "--seeds", default="", help="such as 0-4; the table's own if not"
    )
    parser.add_argument("--workdir", default="runs", help="directory of the workdirs")
    given = list(sys.argv[1:] if argv is None else argv)
    split = given.index("--") if "--" in given else len(given)
    options, more = parser.parse_args(given[:split]), given[split + 1 :]
    table = entries.get_table(options.table)
    seeds = parse_seeds(options.seeds) if options.seeds else table.seeds
    planned = plan(table, seeds, local_path(options.workdir, "--workdir"), more)
    if options.print:
        for run in planned:
            try:
                if run.finished() is None:
                    print(run.command, flush=True)
            except InputError as error:
                program.say_error(str(error))
        return 0
    failed = run_all(planned)
    done = len(planned) - len(failed)
    print(f"{done} of {len(planned)} runs are finished", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    with program.edge():
        sys.exit(main())
