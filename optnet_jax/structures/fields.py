"""What the fields of structures may hold: kinds, which their annotations name.

:mod:`optnet_jax.networks.fields` adds those that only networks have. Modules check
themselves when they are made, so the checks are cheap and take traced arrays.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from jax.core import Tracer

from optnet_jax.kinds import Items, Range, convert, is_plain

MOST_LAYERS = 10**6
"""Beyond this a number is a slip of the hand: no machine holds such a network."""

Depth = Annotated[int, Range(least=0, most=MOST_LAYERS)]
AtLeastOne = Annotated[int, Range(least=1, most=MOST_LAYERS)]
Rate = Annotated[float, Range(least=0, below=1)]
"""Probability to drop something: not all of it."""
Fraction = Annotated[float, Range(above=0, below=1)]
Penalty = Annotated[float, Range(least=0)]
Learned = Annotated[tuple[str, ...], Items(distinct=True)]
"""Names of coefficients that are trained."""
Previous = Literal["shortcut", "same", "zero"]
"""x_{-1} of a stage: S(x), x_0 or 0."""


def check(constructor: Callable, values: dict[str, Any]) -> None:
    """Check the values of a constructor's fields, those whose annotations are kinds.

    In ``values`` each is then as its kind has it: a tuple, no array or list. A module
    gives its own class and ``vars(self)``: what a subclass adds is not checked, and
    what it annotates anew is of the kind that it was.

    Raises:
        InputError: a value that is not of its field's kind, or out of its range.
    """
    for name, kind in _kinds(constructor).items():
        if name in values and not isinstance(values[name], Tracer):
            values[name] = convert(values[name], kind, name)


@functools.cache
def _kinds(constructor: Callable) -> Mapping[str, Any]:
    """Return the kinds of fields by name: a default None is of its field's kind."""
    return {
        name: p.annotation | None if p.default is None else p.annotation
        for name, p in inspect.signature(constructor).parameters.items()
        if is_plain(p.annotation)
    }
