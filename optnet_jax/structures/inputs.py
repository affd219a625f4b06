"""What a transform takes beside x: flags, masks, an injected input, random keys."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.errors import InputError
from optnet_jax.kinds import misfit


class Inputs(NamedTuple):
    """The named inputs of a transform, taken apart by what layers do with them.

    Attributes:
        keys: random keys, each split into one for each step, [steps].
        moving: arrays of real numbers, which have a gradient, the same in all layers.
        fixed: the other arrays, likewise.
        join: (moving, fixed, keys of one step) ↦ the inputs of that step by name; what
            is no array, such as a flag, stays the Python value that it is.
    """

    keys: list[jax.Array]
    moving: list[Any]
    fixed: list[Any]
    join: Callable[..., dict[str, Any]]


def split(
    transforms: Sequence[Callable],
    inputs: Mapping[str, Any],
    steps: int,
    first: Sequence[str] = ("x",),
) -> Inputs:
    """Take the inputs of transforms apart, for as many steps as T is called.

    A key is one that ``jax.random.key`` has made. ``first`` are the names of what T
    takes before them.

    Raises:
        InputError: inputs that T does not take, one that it needs and is not there, or
            a key of ``jax.random.PRNGKey``, which looks like data.
    """
    for transform in transforms:
        _check(transform, inputs, first)
    pairs, tree = jax.tree_util.tree_flatten_with_path(dict(inputs))
    leaves = [leaf for _, leaf in pairs]
    kinds = [_kind(leaf, path) for path, leaf in pairs]

    def join(moving: Any, fixed: Any, keys: Any) -> dict[str, Any]:
        rest = {"moving": iter(moving), "fixed": iter(fixed), "key": iter(keys)}
        return tree.unflatten(
            next(rest[kind]) if kind else leaf
            for leaf, kind in zip(leaves, kinds, strict=True)
        )

    moving, fixed, keys = (
        [leaf for leaf, kind in zip(leaves, kinds, strict=True) if kind == name]
        for name in ("moving", "fixed", "key")
    )
    return Inputs([jax.random.split(key, steps) for key in keys], moving, fixed, join)


def _kind(leaf: Any, path: tuple) -> str:
    dtype = getattr(leaf, "dtype", np.dtype(float))
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return "key"
    if not isinstance(leaf, jax.Array | np.ndarray):
        return ""
    if dtype == np.uint32 and leaf.shape in ((2,), (4,)):
        raise InputError(
            f"inputs{jax.tree_util.keystr(path)} is a uint32 array of shape "
            f"{leaf.shape}, data or a key of jax.random.PRNGKey: give a key as "
            f"jax.random.key or wrap_key_data makes it, and data in int32"
        )
    return "moving" if jnp.issubdtype(dtype, jnp.inexact) else "fixed"


def _check(
    transform: Callable, inputs: Mapping[str, Any], first: Sequence[str]
) -> None:
    if wrong := misfit(transform, *first, **inputs):
        name = getattr(transform, "__name__", type(transform).__name__)
        given = ", ".join(inputs) or "nothing"
        raise InputError(
            f"the transform {name} is called with {', '.join(first)} and, by name, "
            f"{given}: {wrong}"
        )
