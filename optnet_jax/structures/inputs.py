"""What a transform takes beside x: flags, masks, an injected input, random keys."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.errors import InputError


class Inputs(NamedTuple):
    """The named inputs of a transform, taken apart by what layers do with them.

    Attributes:
        keys: random keys, each split into one for each step, [steps].
        arrays: the other arrays, the same ones for all layers.
        join: (arrays, keys of one step) ↦ the inputs of that step by name; what is no
            array, such as a flag, stays the Python value that it is.
    """

    keys: list[jax.Array]
    arrays: list[Any]
    join: Callable[[Sequence[Any], Sequence[Any]], dict[str, Any]]


def split(
    transforms: Sequence[Callable], inputs: Mapping[str, Any], steps: int
) -> Inputs:
    """Take the inputs of transforms apart, for as many steps as T is called.

    A key is one that ``jax.random.key`` has made.

    Raises:
        InputError: inputs that T does not take, or one that it needs and is not there.
    """
    for transform in transforms:
        _check(transform, inputs)
    leaves, tree = jax.tree.flatten(dict(inputs))
    places = [
        1 if _is_key(leaf) else 0 if isinstance(leaf, jax.Array | np.ndarray) else None
        for leaf in leaves
    ]

    def join(arrays: Sequence[Any], keys: Sequence[Any]) -> dict[str, Any]:
        rest = (iter(arrays), iter(keys))
        return tree.unflatten(
            leaf if place is None else next(rest[place])
            for leaf, place in zip(leaves, places, strict=True)
        )

    arrays, keys = (
        [leaf for leaf, place in zip(leaves, places, strict=True) if place == kind]
        for kind in (0, 1)
    )
    return Inputs([jax.random.split(key, steps) for key in keys], arrays, join)


def _is_key(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", np.dtype(float))
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _check(transform: Callable, inputs: Mapping[str, Any]) -> None:
    try:
        inspect.signature(transform).bind(None, **inputs)
    except ValueError:  # a function that does not say what it takes
        return
    except TypeError as error:
        name = getattr(transform, "__name__", type(transform).__name__)
        given = ", ".join(inputs) or "nothing"
        raise InputError(
            f"the transform {name} is called with x and, by name, {given}: {error}"
        ) from None
