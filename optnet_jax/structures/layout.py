"""Two layouts of an untied propagation's variables: stacked, or one tree a layer."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from optnet_jax.errors import InputError


def unroll_layers(variables: Any) -> Any:
    """Return variables of scanned propagations for the same network unrolled.

    Wherever there is a ``layers`` with stacked leaves, [depth, ...], there is
    ``layer_0``, ``layer_1``, ... instead. Everything else stays; a tied propagation
    has one layout only and must not be converted.

    Args:
        variables: nested dicts of arrays: params, batch_stats or what holds them.

    Raises:
        InputError: leaves of one ``layers`` that differ in their leading axis.
    """
    if not isinstance(variables, Mapping):
        return variables
    result = {}
    for name, value in variables.items():
        if name == "layers":
            for k in range(_depth(value)):
                result[f"layer_{k}"] = jax.tree.map(lambda a, k=k: a[k], value)
        else:
            result[name] = unroll_layers(value)
    return result


def stack_layers(variables: Any) -> Any:
    """Return variables of unrolled propagations for the same network scanned.

    The inverse of :func:`unroll_layers`.

    Raises:
        InputError: layers that are missing or differ in structure or shape.
    """
    if not isinstance(variables, Mapping):
        return variables
    names = [name for name in variables if re.fullmatch(r"layer_\d+", name)]
    # What is inside a layer, also a propagation, belongs to its transform: neither
    # direction looks there.
    result = {
        name: value if name == "layers" else stack_layers(value)
        for name, value in variables.items()
        if name not in names
    }
    if not names:
        return result
    expected = [f"layer_{k}" for k in range(len(names))]
    if set(names) != set(expected):
        raise InputError(
            f"cannot stack layers {', '.join(sorted(names))}: expected {expected[0]} "
            f"to {expected[-1]}"
        )
    try:
        layers = [variables[name] for name in expected]
        result["layers"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    except ValueError as error:
        raise InputError(
            f"cannot stack {expected[0]} to {expected[-1]}: they differ ({error})"
        ) from error
    return result


def _depth(layers: Any) -> int:
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(layers)}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(
            f"layers of a scanned propagation must have one leading axis in common, "
            f"got lengths {sorted(lengths)}"
        )
    return lengths.pop()
