"""What the fields of structures may hold: a kind and a range for each name, once.

:mod:`optnet_jax.networks.fields` adds those that only networks have. Modules check
themselves when they are made, so the checks are cheap and take traced arrays.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer

from optnet_jax.errors import InputError, shown

MOST_LAYERS, MOST_CHANNELS = 10**6, 2**16
"""Beyond these a number is a slip of the hand: no machine holds such a network."""


class Kind(NamedTuple):
    """What a field may hold.

    Attributes:
        says: completes "must be ...".
        holds: whether a value is of the kind and in its range.
        type: what a text that stands for a value is to be converted to.
    """

    says: str
    holds: Callable[[Any], bool]
    type: type


def whole(low: int, high: int) -> Kind:
    """Return the kind of the whole numbers from ``low`` to ``high``."""
    return Kind(
        f"a whole number from {low} to {high}",
        lambda value: _is_whole(value) and low <= value <= high,
        int,
    )


def wholes(low: int, high: int, *, empty: bool = False) -> Kind:
    """Return the kind of tuples of whole numbers from ``low`` to ``high``."""
    entry = whole(low, high)
    return Kind(
        f"a tuple of whole numbers from {low} to {high}, such as (4, 4, 4)",
        lambda value: (
            isinstance(value, tuple | list)
            and (empty or len(value) > 0)
            and all(map(entry.holds, value))
        ),
        tuple,
    )


def number(says: str, holds: Callable[[Any], bool]) -> Kind:
    """Return the kind of the real numbers in a range; a traced number is taken."""
    return Kind(
        f"a number {says}",
        lambda value: (
            isinstance(value, Tracer)
            or (isinstance(value, Real) and not isinstance(value, bool | np.bool_))
            and bool(holds(value))
        ),
        float,
    )


def choice(*names: str) -> Kind:
    """Return the kind of some names."""
    return Kind(
        f"one of {', '.join(names)}",
        lambda value: isinstance(value, str) and value in names,
        str,
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def are_finite(value: Any) -> bool:
    """Return whether a value is a finite number, or an array of them."""
    if isinstance(value, Tracer):
        return True
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unequal length
        return False
    return array.dtype.kind in "iuf" and array.size > 0 and np.isfinite(array).all()  # pyright: ignore


FLAG = Kind("True or False", lambda value: isinstance(value, bool | np.bool_), bool)
COEFFICIENT = Kind("a finite number, or an array of them", are_finite, float)
NAMES = Kind(
    'a tuple of names, such as ("alpha",)',
    lambda value: (
        isinstance(value, tuple | list) and all(isinstance(v, str) for v in value)
    ),
    tuple,
)

PREVIOUS = ("shortcut", "same", "zero")
"""What x_{-1} of a stage may be: S(x), x_0 or 0."""

FIELDS: Mapping[str, Kind] = {
    "depth": whole(0, MOST_LAYERS),
    "tied": FLAG,
    "learned": NAMES,
    "separate_paths": FLAG,
    "unroll": FLAG,
    "remat": FLAG,
    "reversible": FLAG,
    "previous": choice(*PREVIOUS),
}
"""Field → kind, for the structures."""


def check(
    constructor: Callable,
    values: Mapping[str, Any],
    fields: Mapping[str, Kind] = FIELDS,
) -> None:
    """Check the values of a constructor's fields.

    None is a value of the fields whose annotation or default says so. Names that
    ``fields`` does not list are passed over.

    Args:
        constructor: a class, a function or a ``functools.partial`` of one.
        values: field → value.
        fields: field → kind.

    Raises:
        InputError: a value that is not of its field's kind, or out of its range.
    """
    optional = _optional_fields(constructor)
    for name, value in values.items():
        kind = fields.get(name)
        if kind is None or (value is None and name in optional):
            continue
        if not kind.holds(value):
            says = f"{kind.says} or None" if name in optional else kind.says
            raise InputError(f"{name} must be {says}, got {shown(value)}")


def check_module(module: Any, fields: Mapping[str, Kind] = FIELDS) -> None:
    """Check the fields of a module, see :func:`check`."""
    names = [f.name for f in dataclasses.fields(module) if f.name in fields]
    values = {name: getattr(module, name) for name in names}
    check(type(module), values, fields)


@functools.cache
def _optional_fields(constructor: Callable) -> frozenset[str]:
    return frozenset(
        name
        for name, parameter in inspect.signature(constructor).parameters.items()
        if parameter.default is None or "None" in str(parameter.annotation)
    )
