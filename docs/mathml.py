"""LaTeX between dollars becomes MathML: browsers draw it without a script."""

import re
from typing import Any

from latex2mathml.converter import convert

# Code, which stays as it is, or a formula.
PARTS = re.compile(
    r"(?P<code>^```.*?^```|`[^`\n]+`)"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|(?<![\\$\w])\$(?P<inline>[^$\n]+)\$(?![\w$])",
    re.DOTALL | re.MULTILINE,
)


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Replace the formulas of a page; a hook of MkDocs."""
    del kwargs
    return PARTS.sub(_replace, markdown)


def _replace(match: re.Match[str]) -> str:
    if match["code"]:
        return match["code"]
    display = "block" if match["block"] else "inline"
    return convert((match["block"] or match["inline"]).strip(), display=display)
