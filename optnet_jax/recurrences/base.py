"""What every method is: a recurrence over an operator T."""

import inspect
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.errors import TracerArrayConversionError
from jax.typing import ArrayLike

from optnet_jax.errors import InputError, shown
from optnet_jax.kinds import in_single_precision, misfit

Transform = Callable[[Any], Any]
"""The operator T: an array to an array of the same shape. z ↦ z - ∇f(z) for
optimisation, x ↦ Φ(Wx) for propagation, a convolutional composite in a network."""

Operators = Transform | tuple[Transform, Transform]
"""One T for both paths of a two-path method, or (T', T)."""

Coefficients = Mapping[str, Any]
"""Scalars of one step by name, or arrays of them with a leading axis [depth]."""

State = Any
"""A pytree of arrays. Its structure and shapes do not change from step to step, except
where the operator takes the whole history: that grows."""

METHODS = ("coefficients", "init", "step", "output")
"""What makes a recurrence."""

ARGUMENTS = {
    "coefficients": ("depth",),
    "init": ("x0",),
    "step": ("transform", "state", "c"),
    "output": ("state",),
    "iterates": ("state",),
    "restart": ("x0", "previous"),
    "undo": ("transform", "state", "c"),
}
"""With what its methods are called, those that it may have too."""


class Recurrence(Protocol):
    """A first-order method, written once, run over any operator T.

    Four methods make a recurrence; no base class is needed. Five more names are read
    where they exist:

    * ``paths = 2``: the method applies T to two iterates in each step and accepts a
      pair of operators, one for each, and a pair of starts (see :func:`pair`);
    * ``iterates(state)``: both iterates of such a method, (x'_k, x_k), where its two
      paths go on into something else than its output;
    * ``restart(x0, previous)``: the state at x_0 = x0, x_{-1} = previous, for methods
      that remember one iterate; others begin at x0 and forget ``previous``;
    * ``undo(transform, state, c)``: the state before a step, of the state after it: the
      method is reversible;
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


class TwoIterates:
    """What methods have in common that remember one iterate: a state (x_k, x_{k-1})."""

    def init(self, x0: Any) -> tuple:
        """Return (x_0, x_{-1}) = (x_0, x_0)."""
        return x0, x0

    def restart(self, x0: Any, previous: Any) -> tuple:
        """Return (x_0, x_{-1}) = (x0, previous)."""
        return x0, previous

    def output(self, state: tuple) -> Any:
        """Return x_K."""
        return state[0]


class FieldCoefficients:
    """What methods have in common whose coefficients are their fields.

    A field is a number for all steps, or one for each; None leaves it to the method.
    """

    names: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        for name in self.names:
            object.__setattr__(self, name, as_field(name, getattr(self, name)))

    def coefficients(self, depth: int) -> Coefficients:
        """Return the fields that are not None, [depth] each."""
        depth = check_depth(depth)
        given = {name: getattr(self, name) for name in self.names}
        return {n: per_step(n, v, depth) for n, v in given.items() if v is not None}


def check_recurrence(recurrence: Any) -> None:
    """Check that there are the four methods, and what each can be called with.

    Raises:
        InputError: it is a class that was not called, lacks a method or has one that
            takes other arguments, or applies T to another number of iterates.
    """
    _check_made("recurrence", recurrence)
    missing = [n for n in METHODS if not callable(getattr(recurrence, n, None))]
    if missing:
        raise InputError(
            f"{shown(recurrence)} is no recurrence: it has no method "
            f"{', '.join(missing)}"
        )
    name = type(recurrence).__name__
    for method, arguments in ARGUMENTS.items():
        own = getattr(recurrence, method, None)
        if own is not None and (wrong := misfit(own, *arguments)):
            raise InputError(
                f"{name}.{method} is called with ({', '.join(arguments)}): {wrong}"
            )
    if number_of_paths(recurrence) not in (1, 2):
        raise InputError(f"{name}.paths={shown(recurrence.paths)} must be 1 or 2")


def check_transforms(*transforms: Any) -> None:
    """Check that each T is a module or a function.

    Raises:
        InputError: one is a class that was not called, or cannot be called.
    """
    for transform in transforms:
        _check_made("transform", transform)
        if not callable(transform):
            raise InputError(
                f"the transform must be a linen module or a function, got "
                f"{shown(transform)}"
            )


def _check_made(what: str, value: Any) -> None:
    if inspect.isclass(value):
        name = value.__name__
        raise InputError(f"the {what} is the class {name}: make one, {name}()")


def number_of_paths(recurrence: Recurrence) -> int:
    """Return to how many iterates a step applies T: 1 unless the method says 2."""
    return getattr(recurrence, "paths", 1)


def takes_history(recurrence: Recurrence) -> bool:
    """Return whether the operator takes the whole history: no unless the method says.

    The ``step`` of such a method calls ``transform((x_0, ..., x_k), alpha)`` for the
    combination Σ_j α_j T_{k+1,j}(x_j), with alpha None for ones. Its state grows, so it
    is written out and never scanned. Its coefficients may also be numbers, which are
    every step's, or a sequence of rows, one array of any length for each step.
    """
    return getattr(recurrence, "history", False)


def coefficients_of(recurrence: Recurrence, depth: int) -> Coefficients:
    """Return a method's coefficients as numbers, also while a program is traced.

    What JAX computes there would be traced otherwise. What is traced itself stays so.
    """
    with jax.ensure_compile_time_eval():
        return recurrence.coefficients(depth)


def at_step(coefficients: Coefficients, k: int) -> Coefficients:
    """Return those of step k, of numbers, arrays [depth, ...] or sequences of rows."""
    return {
        name: value[k] if isinstance(value, tuple | list) or np.ndim(value) else value
        for name, value in coefficients.items()
    }


def packed(value: Any) -> Any:
    """Return a coefficient as the one array that is trained: rows one after another."""
    return np.hstack(value) if isinstance(value, tuple | list) else value


def unpacked(array: Any, value: Any) -> Any:
    """Return a trained array in the form of the coefficient that it was packed from."""
    if not isinstance(value, tuple | list):
        return array
    ends = np.cumsum([np.size(row) for row in value])
    return tuple(
        array[end - np.size(row) : end] for end, row in zip(ends, value, strict=True)
    )


def scaled(c: Any, x: Any) -> Any:
    """Return c x, without a product where c is known to be 0.

    A compiler keeps the product with 0, since of an infinite x it is none, and with it
    x, for the gradient, too. What is trained or scanned is not known, and arrays of
    other libraries are multiplied.
    """
    known = isinstance(x, jax.Array) and not isinstance(c, jax.Array)
    return jnp.zeros_like(x) if known and not np.any(c) else c * x


def pair(shared: Any) -> tuple:
    """Return (T', T) of a two-path method, or (x'_0, x_0): one is for both paths."""
    return shared if isinstance(shared, tuple) else (shared, shared)


def check_depth(depth: int, name: str = "depth") -> int:
    """Return ``depth``.

    Raises:
        InputError: it is not a whole number of at least 1.
    """
    if isinstance(depth, bool) or not isinstance(depth, int | np.integer) or depth < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {depth!r}")
    return int(depth)


def check_mu(mu: Any) -> float:
    """Return μ.

    Raises:
        InputError: it is no number in (0, 1].
    """
    value = numbers("mu", mu)
    if value.ndim or not 0 < value <= 1:
        raise InputError(f"mu must be a number above 0 and at most 1, got {shown(mu)}")
    return float(value)


def per_step(name: str, value: float | ArrayLike, depth: int) -> np.ndarray | jax.Array:
    """Return a scalar for every step, or one value a step, as an array [depth].

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
    gradients go through it, but it does not hash. None stays None.

    Raises:
        InputError: ``value`` is no finite number and no array of them.
    """
    if value is None or isinstance(value, Tracer):
        return value
    return _tuples(numbers(name, value).tolist())


def numbers(name: str, value: Any) -> np.ndarray:
    """Return a scalar, an array or a sequence as concrete numbers in double precision.

    Raises:
        InputError: they are not finite, no numbers, rows of unequal length, or traced.
    """
    try:
        array = np.asarray(value)
        # NumPy makes numbers of texts and None, too.
        if not any(jnp.issubdtype(array.dtype, k) for k in (jnp.integer, jnp.floating)):
            raise TypeError
        array = array.astype(float)
    except TracerArrayConversionError:
        if not isinstance(value, Tracer):
            raise InputError(
                f"{name} holds traced numbers: make it one array, by jnp.asarray"
            ) from None
        raise InputError(
            f"{name} is traced, and this method needs its numbers: give them to "
            f"iterate(..., coefficients=...), or train them, learned=({name!r},)"
        ) from None
    except (TypeError, ValueError):
        raise InputError(
            f"{name} must be a number or an array of them, got {reprlib.repr(value)}"
        ) from None
    if not np.isfinite(in_single_precision(array)).all():
        raise InputError(
            f"{name} must be finite in single precision, got {reprlib.repr(value)}"
        )
    return array


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
