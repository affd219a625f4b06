"""What the fields of structures may hold: a kind for each name, once.

:mod:`optnet_jax.networks.fields` adds those that only networks have. Modules check
themselves when they are made, so the checks are cheap and take traced arrays.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from jax.core import Tracer

from optnet_jax.kinds import Range, convert

MOST_LAYERS = 10**6
"""Beyond this a number is a slip of the hand: no machine holds such a network."""

DropPath = Annotated[float, Range(least=0, below=1)]

FIELDS: Mapping[str, Any] = {
    "depth": Annotated[int, Range(least=0, most=MOST_LAYERS)],
    "tied": bool,
    "learned": tuple[str, ...],
    "shared": bool,
    "drop_path": DropPath | tuple[DropPath, ...],
    "separate_paths": bool,
    "unroll": bool,
    "remat": bool,
    "reversible": bool,
    # x_{-1} of a stage: S(x), x_0 or 0.
    "previous": Literal["shortcut", "same", "zero"],
    "tolerance": Annotated[float, Range(above=0, below=1)],
    "max_steps": Annotated[int, Range(least=1, most=MOST_LAYERS)],
    "mu": Annotated[float, Range(above=0, below=1)],
    "kernel_size": tuple[Annotated[int, Range(least=1, most=MOST_LAYERS)], ...],
    "penalty": Annotated[float, Range(least=0)],
    "coupled": bool,
}
"""Field → kind, for the structures."""


def check(
    constructor: Callable, values: Mapping[str, Any], fields: Mapping[str, Any] = FIELDS
) -> None:
    """Check the values of a constructor's fields, those that ``fields`` has kinds of.

    None is a value of the fields whose annotation or default says so.

    Raises:
        InputError: a value that is not of its field's kind, or out of its range.
    """
    optional = _optional_fields(constructor)
    for name, value in values.items():
        if name in fields and not isinstance(value, Tracer):
            kind = fields[name]
            convert(value, kind | None if name in optional else kind, name)


def check_module(module: Any, fields: Mapping[str, Any] = FIELDS) -> None:
    """Check the fields of a module, see :func:`check`."""
    names = [f.name for f in dataclasses.fields(module) if f.name in fields]
    check(type(module), {name: getattr(module, name) for name in names}, fields)


@functools.cache
def _optional_fields(constructor: Callable) -> frozenset[str]:
    return frozenset(
        name
        for name, parameter in inspect.signature(constructor).parameters.items()
        if parameter.default is None or "None" in str(parameter.annotation)
    )
