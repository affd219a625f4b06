"""A program that is compiled when it is first called, which is told and timed."""

import time
from collections.abc import Callable
from typing import Any


class Compiled:
    """A jitted function, compiled apart from its first run.

    Args:
        function: As ``jax.jit`` returns it; called with one set of shapes only.
        name: What it is, for the line.
        tell: Takes the line.
    """

    def __init__(self, function: Any, name: str, tell: Callable[[str], None]):
        self._function = function
        self._name = name
        self._tell = tell
        self._program: Any = None
        self.seconds = 0.0
        """How long it took to compile; 0 before that."""

    def compile(self, *arguments: Any) -> Callable:
        """Compile for the shapes of ``arguments``, unless that is done."""
        if self._program is None:
            started = time.monotonic()
            self._program = self._function.lower(*arguments).compile()
            self.seconds = time.monotonic() - started
            self._tell(f"compiled {self._name} in {self.seconds:.1f} s")
        return self._program

    def __call__(self, *arguments: Any) -> Any:
        """Run the program."""
        return self.compile(*arguments)(*arguments)
