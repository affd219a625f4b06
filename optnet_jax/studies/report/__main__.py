"""One page about runs of training, finished or not, which opens without a server.

    python -m optnet_jax.studies.report runs/digits_agd --html

writes ``report.html`` in the directory, or in the current one for several, as it does
without ``--html``; ``--html=FILE`` elsewhere.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from optnet_jax.configuration import local_path
from optnet_jax.errors import InputError
from optnet_jax.runs import program
from optnet_jax.runs.files import write_output
from optnet_jax.studies.report import runs


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
    text = page.render(runs.find(directories))
    return write_output(
        file, text.encode("utf-8", "replace"), "choose another --html=FILE"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Report on directories."""
    parser = program.Parser(
        prog="python -m optnet_jax.studies.report",
        description="Write one self-contained page about runs, unfinished ones too.",
    )
    parser.add_argument("directories", nargs="+", help="searched for runs")
    parser.add_argument(
        "--html", nargs="?", metavar="FILE", help="the page, else report.html"
    )
    options = parser.parse_args(argv)
    directories = [local_path(place, "directory") for place in options.directories]
    folder = directories[0] if len(directories) == 1 else Path()
    file = local_path(options.html or folder / "report.html", "--html")
    print(f"written: {write_page(directories, file)}", file=sys.stderr)


if __name__ == "__main__":
    with program.edge():
        main()
