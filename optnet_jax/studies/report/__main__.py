"""Collect ``result.json`` files into tables of results beside the paper's.

    python -m optnet_jax.studies.report runs --out=report

prints Tables 4 and 5 and the digits table in Markdown; ``--out`` also writes
``report.md``, ``report.json`` and ``report.png``. A run counts for an entry of a table
only if its config is the entry's, but for the seed: others are listed apart, with what
sets them apart.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optnet_jax.errors import InputError
from optnet_jax.studies.report import results
from optnet_jax.studies.report.markdown import render
from optnet_jax.studies.report.summary import summarize


def write(summary: dict[str, Any], out: Path) -> list[Path]:
    """Write ``report.md``, ``report.json`` and ``report.png``.

    Args:
        summary: From :func:`~optnet_jax.studies.report.summary.summarize`.
        out: Directory, made where it is missing.

    Returns:
        The files.
    """
    from optnet_jax.studies.report import figure

    out.mkdir(parents=True, exist_ok=True)
    markdown, data = out / "report.md", out / "report.json"
    markdown.write_text(render(summary), "utf-8")
    data.write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
    return [markdown, data, figure.draw(summary, out / "report.png")]


def main(argv: Sequence[str] | None = None) -> int:
    """Report on directories; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m optnet_jax.studies.report",
        description="Collect result.json files into tables beside the paper's.",
    )
    parser.add_argument("directories", nargs="+", help="searched for result.json")
    parser.add_argument("--out", default="", help="directory for .md, .json and .png")
    options = parser.parse_args(argv)
    try:
        runs = results.find([Path(directory) for directory in options.directories])
        summary = summarize(runs)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(render(summary), end="")
    if options.out:
        for file in write(summary, Path(options.out)):
            print(f"written: {file}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
