"""What every method is: a recurrence over an operator T."""

import reprlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax.core import Tracer
from jax.errors import TracerArrayConversionError
from jax.typing import ArrayLike

from optnet_jax.errors import InputError

Transform = Callable[[Any], Any]
"""The operator T: an array to an array of the same shape. z ↦ z - ∇f(z) for
optimisation, x ↦ Φ(Wx) for propagation, a convolutional composite in a network."""

Coefficients = Mapping[str, Any]
"""Scalars of one step by name, or arrays of them with a leading axis [depth]."""

State = Any
"""A pytree of arrays. Its structure and shapes do not change from step to step, except
where the operator takes the whole history: that grows."""


class Recurrence(Protocol):
    """A first-order method, written once, run over any operator T.

    Four methods make a recurrence; no base class is needed. Four more names are read
    where they exist:

    * ``paths = 2``: the method applies T to two iterates in each step and accepts a
      pair of operators, one for each, and a pair of starts (see :func:`pair`);
    * ``iterates(state)``: both iterates of such a method, where its two paths go on
      into something else than its output (see :func:`iterates`);
    * ``restart(x0, previous)``: the state at x_0 = x0, x_{-1} = previous, for methods
      that remember one iterate (see :func:`restart`);
    * ``history = True``: the operator takes all iterates at once (see
      :func:`takes_history`).
    """

    def coefficients(self, depth: int) -> Coefficients:
        """Return the coefficients of steps 0..depth-1: arrays with axis 0 of depth."""
        ...

    def init(self, x0: Any) -> State:
        """Return the state before the first step."""
        ...

    def step(self, transform: Any, state: State, c: Coefficients) -> State:
        """Return the state after one step with the coefficients ``c`` of that step."""
        ...

    def output(self, state: State) -> Any:
        """Read the iterate out of the state."""
        ...


def number_of_paths(recurrence: Recurrence) -> int:
    """Return to how many iterates the method applies T in one step: 1 unless it says.

    Returns:
        1, or 2 for the two-path structures (14) and (20).
    """
    return getattr(recurrence, "paths", 1)


def takes_history(recurrence: Recurrence) -> bool:
    """Return whether the operator takes the whole history: no unless the method says.

    The ``step`` of such a method calls ``transform((x_0, ..., x_k), alpha)`` for the
    combination Σ_j α_j T_{k+1,j}(x_j), with alpha None for ones. Its state grows, so it
    is written out and never scanned. Its coefficients may also be numbers, which are
    every step's, or a sequence of rows, one array of any length for each step.
    """
    return getattr(recurrence, "history", False)


def at_step(coefficients: Coefficients, k: int) -> Coefficients:
    """Return the coefficients of step k.

    Args:
        coefficients: numbers, arrays with a leading axis [depth], or sequences of rows.
        k: the step.
    """
    return {
        name: value[k] if isinstance(value, tuple | list) or np.ndim(value) else value
        for name, value in coefficients.items()
    }


def packed(value: Any) -> Any:
    """Return a coefficient as the one array that is trained: rows one after another."""
    return np.hstack(value) if isinstance(value, tuple | list) else value


def unpacked(array: Any, value: Any) -> Any:
    """Return a trained array in the form of the coefficient that it was packed from.

    Args:
        array: as :func:`packed` made it.
        value: the coefficient, whose rows have the lengths.
    """
    if not isinstance(value, tuple | list):
        return array
    ends = np.cumsum([np.size(row) for row in value])
    return tuple(
        array[end - np.size(row) : end] for end, row in zip(ends, value, strict=True)
    )


def pair(shared: Any) -> tuple:
    """Return what the primed and the plain path of a two-path method take.

    Args:
        shared: one operator, or one start, for both paths, or a tuple with one for
            each.

    Returns:
        (T', T), or (x'_0, x_0).
    """
    return shared if isinstance(shared, tuple) else (shared, shared)


def iterates(recurrence: Recurrence, state: State) -> tuple:
    """Return the iterate of each path: (x_k,), or (x'_k, x_k) of a two-path method.

    Args:
        recurrence: any recurrence.
        state: its state.

    Raises:
        InputError: a two-path method without the method ``iterates``.
    """
    if number_of_paths(recurrence) == 1:
        return (recurrence.output(state),)
    if not hasattr(recurrence, "iterates"):
        raise InputError(
            f"{type(recurrence).__name__} has two paths: give it a method "
            f"iterates(state) that returns both"
        )
    return recurrence.iterates(state)  # pyright: ignore


def restart(recurrence: Recurrence, x0: Any, previous: Any) -> State:
    """Return the state at x_0 = x0 with x_{-1} = previous.

    Args:
        recurrence: any recurrence; one that remembers no iterate forgets ``previous``.
        x0: the iterate at which the recurrence starts again.
        previous: the iterate before it, of the same shape.

    Returns:
        ``recurrence.restart(x0, previous)`` where that is defined, else
        ``recurrence.init(x0)``.
    """
    if hasattr(recurrence, "restart"):
        return recurrence.restart(x0, previous)  # pyright: ignore
    return recurrence.init(x0)


def check_depth(depth: int) -> int:
    """Return ``depth``.

    Raises:
        InputError: it is not a whole number of at least 1.
    """
    if isinstance(depth, bool) or not isinstance(depth, int | np.integer) or depth < 1:
        raise InputError(f"depth must be a whole number of at least 1, got {depth!r}")
    return int(depth)


def per_step(name: str, value: float | ArrayLike, depth: int) -> np.ndarray | jax.Array:
    """Return ``value`` as one coefficient for each step.

    Args:
        name: the coefficient's name, for the error.
        value: a scalar for every step, or one value a step, [depth].
        depth: the number of steps.

    Returns:
        An array [depth].

    Raises:
        InputError: ``value`` has another number of entries, or no numbers.
    """
    depth = check_depth(depth)
    array = value if isinstance(value, jax.Array) else numbers(name, value)
    if array.ndim == 0:
        return array * np.ones(depth)
    if array.shape != (depth,):
        raise InputError(
            f"{name} must be a scalar or have one entry for each of the {depth} steps, "
            f"got shape {array.shape}"
        )
    return array


def as_field(name: str, value: Any) -> Any:
    """Return a coefficient as nested tuples, so that a recurrence that holds it hashes.

    A traced value has no numbers yet. It stays what it is: the recurrence runs, and
    gradients go through it, but it does not hash.

    Args:
        name: the coefficient's name, for the error.
        value: a scalar, None, or an array or sequence of numbers.

    Returns:
        The same numbers as a float or nested tuples of floats; None stays None.

    Raises:
        InputError: ``value`` is no finite number and no array of them.
    """
    if value is None or isinstance(value, Tracer):
        return value
    return _tuples(numbers(name, value).tolist())


def numbers(name: str, value: Any) -> np.ndarray:
    """Return concrete numbers in double precision.

    Args:
        name: what they are called in the error.
        value: a scalar, or an array or sequence of numbers.

    Raises:
        InputError: they are not finite, no numbers, rows of unequal length, or traced.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":  # NumPy makes numbers of texts and None, too
            raise TypeError
        array = array.astype(float)
    except TracerArrayConversionError:
        raise InputError(
            f"{name} is traced, and this method needs its numbers: give them to "
            f"iterate(..., coefficients=...), or train them, learned=({name!r},)"
        ) from None
    except (TypeError, ValueError):
        raise InputError(
            f"{name} must be a number or an array of them, got {reprlib.repr(value)}"
        ) from None
    if not np.isfinite(array).all():
        raise InputError(f"{name} must be finite, got {reprlib.repr(value)}")
    return array


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
