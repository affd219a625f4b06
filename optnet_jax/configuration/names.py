"""Which name a person probably meant that there is not."""

import difflib
from collections.abc import Iterable

from optnet_jax.errors import LONGEST, shown


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the hint of an error message: the name that was meant, or nothing."""
    close = closest(shown(name).strip("'"), known)
    return f" (did you mean {close}?)" if close else ""


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
