"""What a user can put right: one line with the cause and the cure."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A value that came from the user is wrong.

    The library raises it as the ``ValueError`` that it is; the command line prints its
    message alone and exits with status 2. The message names the cause and the cure.
    """


LONGEST = 80
"""Characters of a value that an error message repeats."""


def shown(value: object) -> str:
    """Return a value as an error message repeats it: on one line, and not too long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # more digits or levels than Python writes, or a foreign repr
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def named(path: object) -> str:
    """Return a path as an error message repeats it: whole, and on one line."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def one_line(error: BaseException, longest: int = 500) -> str:
    """Return the message of another library's error, on one line and not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the hint of an error message: the name that was meant, or nothing."""
    close = closest(shown(name).strip("'"), known)
    return f" (did you mean {close!r}?)" if close else ""


def closest(name: str, known: Iterable[str]) -> str | None:
    """Find the dotted name that a person probably meant.

    The last parts are compared: the same one elsewhere comes first, then a word, the
    beginning or the initials of one, then another spelling. Of several, the one in the
    block that was named.

    >>> names = ("seed", "optimizer.learning_rate", "optimizer.weight_decay")
    >>> closest("optimizer.lr", names), closest("weight_decay", names)
    ('optimizer.learning_rate', 'optimizer.weight_decay')
    >>> closest("xyzzy", names)
    """
    block, _, last = name[:LONGEST].rpartition(".")
    fields: dict[str, list[str]] = {}
    for full in known:
        fields.setdefault(full.rpartition(".")[2], []).append(full)
    good = (
        [last] * (last in fields)
        or [part for part in fields if _stands_for(last, part)]
        or difflib.get_close_matches(last, fields, n=1)
    )
    found = [full for part in good for full in fields[part]]
    return max(found, key=lambda full: full.rpartition(".")[0] == block, default=None)


def _stands_for(short: str, field: str) -> bool:
    """Say whether ``short`` is a word of a name, its beginning, or its initials."""
    words = field.split("_")
    initials = "".join(word[:1] for word in words)
    return len(short) > 1 and (
        short in (initials, *words) or any(word.startswith(short) for word in words)
    )
