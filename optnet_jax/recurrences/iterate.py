"""The driver: it knows no method and no operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optnet_jax.errors import InputError
from optnet_jax.recurrences.base import Coefficients, Recurrence, State, check_depth


def iterate(
    recurrence: Recurrence,
    transform: Callable | tuple[Callable, Callable],
    x0: Any,
    depth: int,
    *,
    trajectory: bool = False,
    coefficients: Coefficients | None = None,
    weights: Any = None,
) -> Any:
    """Run ``depth`` steps of a recurrence over an operator, in one ``lax.scan``.

    >>> import jax.numpy as jnp
    >>> from optnet_jax.recurrences import heavy_ball
    >>> x = iterate(heavy_ball(0.5), lambda x: x / 2, jnp.ones(1), 2, trajectory=True)
    >>> x[:, 0].tolist()
    [1.0, 0.5, 0.0]

    Args:
      recurrence: the method.
      transform: the operator T, x ↦ T(x), shape-preserving; for two-path methods also
        a pair (T', T). With ``weights``: (x, w_k) ↦ T_k(x).
      x0: the start x_0, an array of any shape.
      depth: the number of steps K.
      trajectory: return all iterates.
      coefficients: to run with others than the method's own: a dict of arrays with
        leading axis [depth] as ``recurrence.coefficients(depth)`` gives it.
      weights: a pytree of arrays with leading axis [depth], one slice for each step.

    Returns:
      ``recurrence.output`` after the last step; with ``trajectory``, after each, on a
      leading axis of depth + 1 with x_0 first.

    Raises:
      InputError: depth < 1, or coefficients or weights of another length.
    """
    depth = check_depth(depth)
    x0 = jnp.asarray(x0)
    if not jnp.issubdtype(x0.dtype, jnp.inexact):
        x0 = x0.astype(jnp.result_type(float))
    if coefficients is None:
        coefficients = recurrence.coefficients(depth)
    coefficients = cast_coefficients(coefficients, x0.dtype)
    check_lengths(coefficients, depth, "coefficients")
    check_lengths(weights, depth, "weights")

    def body(state: State, layer: tuple) -> tuple:
        c, w = layer
        operator = transform if weights is None else _bind(transform, w)
        state = step_in_dtype(recurrence, operator, state, c)
        return state, recurrence.output(state) if trajectory else None

    initial = recurrence.init(x0)
    state, outputs = jax.lax.scan(body, initial, (coefficients, weights), depth)
    if not trajectory:
        return recurrence.output(state)
    first = recurrence.output(initial)
    return jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), first, outputs)


def step_in_dtype(
    recurrence: Recurrence, transform: Any, state: State, c: Coefficients
) -> State:
    """Return the state after one step, in the dtypes that the state had.

    Coefficients are kept in at least float32, so a bfloat16 state would be promoted;
    a scan's carry must not change.

    Args:
      recurrence: the method.
      transform: the operator.
      state: the state before the step.
      c: the coefficients of the step.
    """
    new = recurrence.step(transform, state, c)
    return jax.tree.map(lambda new, old: new.astype(old.dtype), new, state)


def cast_coefficients(coefficients: Coefficients, dtype: Any) -> Coefficients:
    """Return the coefficients as JAX arrays of the state's dtype, at least float32.

    Args:
      coefficients: arrays by name.
      dtype: the dtype of the iterates.
    """
    dtype = jnp.promote_types(dtype, jnp.float32)
    return jax.tree.map(lambda c: jnp.asarray(c, dtype), coefficients)


def check_lengths(tree: Any, depth: int, name: str) -> None:
    """Check that every array has one entry for each step.

    Args:
      tree: a pytree of arrays.
      depth: the number of steps.
      name: what the tree is called in the error.

    Raises:
      InputError: a leaf's leading axis is not ``depth``.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.ndim(leaf) == 0 or leaf.shape[0] != depth:
            raise InputError(
                f"{name}{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}: its "
                f"leading axis must be the depth, {depth}"
            )


def _bind(transform: Any, w: Any) -> Any:
    if isinstance(transform, tuple):
        return tuple(_bind(t, w) for t in transform)
    return lambda x: transform(x, w)
