"""Markdown tables that also read well on a terminal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Lay out a table with padded columns: the first to the left, others to the right.

    >>> print(markdown_table(["depth", "|x|"], [["10", "1.00644"]]))
    | depth |   \|x\| |
    | :---- | ------: |
    | 10    | 1.00644 |
    """
    header, *rows = ([c.replace("|", r"\|") for c in r] for r in (header, *rows))
    columns = list(zip(header, *rows, strict=True))
    widths = [max(3, *map(len, column)) for column in columns]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        others = (c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))
        return f"| {' | '.join([first, *others])} |"

    return "\n".join([line(header), line(rule), *map(line, rows)])


def select(rows: Iterable[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
    """Return the rows that have these values in these fields.

    >>> select([{"depth": 1, "mse": 0.5}, {"depth": 2, "mse": 0.4}], depth=2)
    [{'depth': 2, 'mse': 0.4}]
    """
    return [row for row in rows if all(row[name] == fields[name] for name in fields)]


def table(
    rows: Iterable[Any],
    columns: Sequence[tuple[str, Callable[[Any], str]]],
) -> str:
    """Lay out a line for each row: the columns are names, and what each has of a row.

    >>> print(table([{"k": 3}], [("layers", lambda row: str(row["k"]))]))
    | layers |
    | :----- |
    | 3      |
    """
    lines = [[entry(row) for _, entry in columns] for row in rows]
    return markdown_table([name for name, _ in columns], lines)


def pivot(first: str, entries: Iterable[tuple[str, str, str]]) -> str:
    """Lay out entries (line, column, text), both in the order in which they come first.

    >>> print(pivot("", [("GD", "K = 2", "9.1"), ("HB", "K = 2", "8.2")]))
    |     | K = 2 |
    | :-- | ----: |
    | GD  |   9.1 |
    | HB  |   8.2 |
    """
    lines: dict[str, dict[str, str]] = {}
    for line, column, text in entries:
        lines.setdefault(line, {})[column] = text
    columns = dict.fromkeys(column for line in lines.values() for column in line)
    return markdown_table(
        [first, *columns],
        [[name, *(line.get(c, "") for c in columns)] for name, line in lines.items()],
    )


def bullets(verdicts: Mapping[str, str]) -> str:
    """Return a list of what each verdict is of and, in bold, the verdict."""
    return "\n".join(f"* {name}: **{verdict}**" for name, verdict in verdicts.items())


def number(value: float | None, form: str = ".2g") -> str:
    """Format a number; None, NaN and ±∞ are a dash.

    >>> number(0.125), number(None)
    ('0.12', '-')
    """
    return "-" if value is None or not np.isfinite(value) else format(value, form)


def ratio(value: float | None, to: float | None) -> str:
    """Format a quotient; a dash where it has none, or a part is None.

    >>> ratio(1.0, 4.0), ratio(None, 4.0), ratio(1.0, 0.0)
    ('0.25', '-', '-')
    """
    return number(value / to if value is not None and to else None)


def ranges(values: Sequence[int]) -> str:
    """Return a list of whole numbers, a range where it is one.

    >>> ranges([0, 1, 2]), ranges([0, 4])
    ('0-2', '0, 4')
    """
    if len(values) > 2 and list(values) == list(range(values[0], values[-1] + 1)):
        return f"{values[0]}-{values[-1]}"
    return ", ".join(map(str, values))


def each(texts: Iterable[str], between: str = "; ") -> str:
    """Return some texts, each once."""
    return between.join(sorted(set(texts)))


def with_sd(values: Sequence[float], digits: int = 5) -> str:
    """Format mean ± sample standard deviation (n - 1) over the seeds.

    >>> with_sd([1.0, 1.002]), with_sd([1.0])
    ('1.00100 ± 0.00141', '1.00000')
    """
    array = np.asarray(values, float)
    text = f"{array.mean():.{digits}f}"
    return f"{text} ± {array.std(ddof=1):.{digits}f}" if array.size > 1 else text
