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


def to_markdown(text: str) -> str:
    """Convert one docstring."""
    done: list[str] = []
    lines = text.split("\n")
    while lines:
        if lines[0].strip().startswith(">>> "):
            # Up to a blank line: as doctest reads it.
            length = next((i for i, at in enumerate(lines) if not at.strip()), None)
            done += _fenced("pycon", lines[:length])
            lines = [] if length is None else lines[length:]
        elif RULE.match(lines[0].strip()):
            rules = [i for i, at in enumerate(lines) if RULE.match(at.strip())]
            length = rules[:RULES_OF_A_TABLE][-1] + 1
            done += _fenced("text", lines[:length])
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
    # The shape of an array of arrays, no reference.
    return line.replace("][", "]\\[")


def _shown(target: str, *, short: bool) -> str:
    return target.rpartition(".")[2] if short else target.lstrip(".")


class RestToMarkdown(griffe.Extension):
    """Converts every docstring as it is loaded."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        """See :class:`griffe.Extension`."""
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
