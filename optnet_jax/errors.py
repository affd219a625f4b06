"""What a user can put right: one line with the cause and the cure."""


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
