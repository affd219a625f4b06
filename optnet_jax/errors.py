"""What a user can put right: one line with the cause and the cure."""


class InputError(ValueError):
    """A value that came from the user is wrong.

    The library raises it as the ``ValueError`` that it is; the command line prints its
    message alone and exits with status 2. The message names the cause and the cure.
    """
