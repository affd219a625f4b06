"""The docstrings as Markdown: examples and ruled tables fenced, roles as code.

The docstrings are read in an editor or by ``help`` first; there ``:class:`~a.b.C```,
``>>>`` and a ruled table serve better than what Markdown would want.
"""

import re
from typing import Any

import griffe

ROLE = re.compile(r":\w+:`(~?)([^`]+)`")
RULE = re.compile(r"=+(?: +=+)+$")
RULES_OF_A_TABLE = 3
# Indices and stars of formulas, which Markdown would take for emphasis.
INDEX = re.compile(r"(?<!\w)_|_(?!\w)")
STAR = re.compile(r"(?<=\w)\*(?!\w)")
EMPHASIS = re.compile(r"(?<![\w*])\*\w[^*]*\w\*(?!\w)")


def to_markdown(text: str) -> str:
    """Convert one docstring."""
    done: list[str] = []
    lines = text.split("\n")
    literal = False
    while lines:
        # An indented paragraph is code.
        literal = lines[0].startswith("    ") and (literal or done[-1:] == [""])
        if literal:
            done.append(lines.pop(0))
        elif lines[0].strip().startswith(">>> "):
            # Up to a blank line: as doctest reads it.
            length = next((i for i, at in enumerate(lines) if not at.strip()), None)
            done += _fenced("pycon", lines[:length])
            lines = [] if length is None else lines[length:]
        elif RULE.match(lines[0].strip()):
            rules = [i for i, at in enumerate(lines) if RULE.match(at.strip())]
            length = rules[:RULES_OF_A_TABLE][-1] + 1
            # Without the marks of code, and as wide.
            cell = r"``(.+?)``((?: ?\S+)*)"
            plain = [re.sub(cell, r"\1\2    ", at) for at in lines[:length]]
            done += _fenced("text", plain)
            lines = lines[length:]
        else:
            done.append(_prose(lines.pop(0)))
    return "\n".join(done)


def _fenced(language: str, lines: list[str]) -> list[str]:
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    # A paragraph above would swallow the fence.
    return ["", f"{indent}```{language}", *lines, f"{indent}```"]


def _prose(line: str) -> str:
    line = ROLE.sub(lambda m: f"`{_shown(m[2], short=bool(m[1]))}`", line)
    # What stands between backticks is code and stays as it is.
    parts = re.split(r"(`+[^`]+`+)", line)
    parts[::2] = [_escaped(part) for part in parts[::2]]
    return "".join(parts)


def _escaped(text: str) -> str:
    text = INDEX.sub(r"\\_", text)
    if not EMPHASIS.search(text):
        text = STAR.sub(r"\\*", text)
    # The shape of an array of arrays, no reference.
    return text.replace("][", "]\\[")


def _shown(target: str, *, short: bool) -> str:
    return target.rpartition(".")[2] if short else target.lstrip(".")


class RestToMarkdown(griffe.Extension):
    """Converts every docstring as it is loaded."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        """See :class:`griffe.Extension`."""
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
