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


def one_line(error: BaseException, longest: int = 500) -> str:
    """Return the message of another library's error, on one line and not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"
