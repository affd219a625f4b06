"""Collect ``result.json`` files into tables of results beside the paper's.

    python -m optnet_jax.studies.report runs --out=report

prints Tables 4 and 5 and the digits table in Markdown; ``--out`` also writes
``report.md``, ``report.json`` and ``report.png``. A run counts for an entry of a table
only if its config is the entry's, but for the seed: others are listed apart, with what
sets them apart.

    python -m optnet_jax.studies.report runs/digits_agd --html

writes one page about the runs instead, finished or not, which opens without a server:
``report.html`` in the directory (in the current one for several), or ``--html=FILE``.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from optnet_jax.configuration import local_path
from optnet_jax.errors import InputError
from optnet_jax.runs import program
from optnet_jax.runs.files import write_output
from optnet_jax.studies.report import runs
from optnet_jax.studies.report.markdown import render
from optnet_jax.studies.report.summary import summarize


def write_tables(directories: Sequence[Path], out: Path | None) -> list[Path]:
    """Print the tables of all finished runs, and write them and a picture into ``out``.

    Raises:
        InputError: if a run is damaged, or a file cannot be written.
    """
    summary = summarize(runs.find(directories))
    text, data = render(summary), f"{json.dumps(summary, indent=2)}\n"
    print(text, end="")
    if out is None:
        return []
    from optnet_jax.studies.report import figure

    cure = "choose another --out=DIR"
    return [
        write_output(out / "report.md", text.encode(), cure),
        write_output(out / "report.json", data.encode(), cure),
        figure.draw(summary, out / "report.png"),
    ]


def write_page(directories: Sequence[Path], file: Path) -> Path:
    """Write one HTML page about all runs, finished or not.

    Raises:
        InputError: if there is no run, a package is missing, or the file cannot be
            written.
    """
    try:
        from optnet_jax.studies.report import page
    except ImportError as error:
        raise InputError(
            f"--html needs {error.name}, which is not installed: pip install "
            f"{error.name}"
        ) from error
    text = page.render(runs.find(directories, unfinished=True))
    return write_output(
        file, text.encode("utf-8", "replace"), "choose another --html=FILE"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Report on directories."""
    parser = program.Parser(
        prog="python -m optnet_jax.studies.report",
        description="Collect result.json files into tables beside the paper's.",
    )
    parser.add_argument("directories", nargs="+", help="searched for result.json")
    parser.add_argument("--out", default="", help="directory for .md, .json and .png")
    parser.add_argument(
        "--html",
        nargs="?",
        const="",
        metavar="FILE",
        help="write one self-contained page about the runs, unfinished ones as well",
    )
    options = parser.parse_args(argv)
    directories = [local_path(place, "directory") for place in options.directories]
    if options.html is None:
        out = local_path(options.out, "--out") if options.out else None
        files = write_tables(directories, out)
    else:
        folder = directories[0] if len(directories) == 1 else Path()
        file = options.html or folder / "report.html"
        files = [write_page(directories, local_path(file, "--html"))]
    for file in files:
        print(f"written: {file}", file=sys.stderr)


if __name__ == "__main__":
    with program.edge():
        main()
