"""The sum over all preceding iterates (18), with (21) and (13) as special cases."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from optnet_jax.errors import InputError
from optnet_jax.recurrences.base import Coefficients, as_field, check_depth, numbers
from optnet_jax.recurrences.coefficients import h_matrix, momentum

NESTEROV = "nesterov"
"""What α and β are called that follow (5)."""


@dataclasses.dataclass(frozen=True)
class HistorySum:
    """x_{k+1} = Σ_{j≤k} α^j_{k+1} T_{k+1,j}(x_j) + Σ_{j≤k} β^j_{k+1} x_j.

    (18) over an operator that takes the whole history: its combination C_k(x_0..x_k;
    α_{k+1}) is the first sum, with a T for each pair (k+1, j) or one for each x_j, and
    how it is computed is its own business. DenseNet is α ≡ 1, β = 0, the default.

    A number β is that of (21): the plain terms are β (x_k - Σ_j h_{k+1,j} x_j), and
    with α = h and β = 1 they make (13). They need no sum: with
    d_{k+1} = Σ_j h_{k+1,j} x_j - x_k, (5) becomes

      d_1 = 0,  d_{k+1} = β_{k+1} (x_k + d_k),  β_{k+1} of (3),

    and the terms are -β d_{k+1}. h_{k+1,0} = 0 for k ≥ 1 and x_0 - h_{1,0} x_0 = 0, so
    x_0 is not in them and may have another number of channels than the rest.

    Arbitrary coefficients need the whole history: O(K) arrays of state. For (13) with
    one T for each x_j, :class:`~optnet_jax.recurrences.NesterovSum` needs two.

    Attributes:
        alpha: α, a number for all pairs; lower triangular [K, K], row k for x_{k+1}; or
            "nesterov", h of (5).
        beta: a number, β of (21); lower triangular [K, K], β^j of (18), which asks for
            equal channels; or "nesterov", [j = k] - h_{k+1,j}.
        through: applied to d where it enters the sum; None for nothing. It is the place
            for an identity with a gradient of its own
            (:func:`optnet_jax.ops.cpu.kept_gradient`).

    Raises:
        InputError: alpha or beta that is none of these, or a traced alpha.
    """

    alpha: Any = 1.0
    beta: Any = 0.0
    through: Callable[[Any], Any] | None = dataclasses.field(default=None, repr=False)
    history: ClassVar[Literal[True]] = True

    def __post_init__(self):
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            is_number = name == "beta" and isinstance(value, Tracer) and not value.ndim
            if not is_number and not (isinstance(value, str) and value == NESTEROV):
                value = as_field(name, _checked(name, value))
            object.__setattr__(self, name, value)

    def coefficients(self, depth: int) -> Coefficients:
        """Return alpha, a row α^0_{k+1}..α^k_{k+1} a step, and beta, rows or a number.

        Raises:
            InputError: ``depth`` is not the size of the matrices.
        """
        h = h_matrix(check_depth(depth))
        alpha = _matrix("alpha", self.alpha, h)
        beta = _matrix("beta", self.beta, np.eye(depth) - h)
        if not np.ndim(alpha):
            alpha = np.full((depth, depth), alpha)
        return {"alpha": _rows(alpha), "beta": _rows(beta) if np.ndim(beta) else beta}

    def init(self, x0: Any) -> tuple:
        """Return ((x_0,), d): d_1 = 0 is not written down."""
        return (x0,), None

    def step(self, transform: Any, state: tuple, c: Coefficients) -> tuple:
        """Return ((x_0, ..., x_{k+1}), d_{k+1})."""
        xs, d = state
        alpha, beta = (
            row[: len(xs)] if np.ndim(row) and len(row) > len(xs) else row
            for row in (c["alpha"], c["beta"])
        )
        x = transform(xs, None if _is_all(alpha, 1) else alpha)
        if np.ndim(beta):
            x = _add_plain(x, xs, beta)
        elif len(xs) > 1 and not _is_all(beta, 0):
            newest = xs[-1]
            discount = jnp.asarray(momentum(len(xs) + 1)[-1], newest.dtype)
            d = discount * (newest if d is None else newest + d)
            term = d if self.through is None else self.through(d)
            x = x - jnp.asarray(beta, newest.dtype) * term
        return (*xs, x), d

    def output(self, state: tuple) -> Any:
        """Return x_k, the newest iterate."""
        return state[0][-1]


def alpha_matrix(packed: Any) -> np.ndarray:
    """Return trained rows α, one after the other, [K (K+1) / 2], as a matrix [K, K].

    >>> alpha_matrix([1.0, 2.0, 3.0]).tolist()
    [[1.0, 0.0], [2.0, 3.0]]

    Raises:
        InputError: the number of entries is no K (K+1) / 2.
    """
    packed = np.asarray(packed)
    depth = int((np.sqrt(8 * packed.size + 1) - 1) / 2)
    if packed.shape != (depth * (depth + 1) // 2,):
        raise InputError(
            f"a triangle has K (K+1) / 2 entries, and shape {packed.shape} has not"
        )
    matrix = np.zeros((depth, depth), packed.dtype)
    matrix[np.tril_indices(depth)] = packed
    return matrix


def _checked(name: str, value: Any) -> np.ndarray:
    array = numbers(name, value)
    square = array.ndim == 2 and array.shape[0] == array.shape[1] > 0
    if array.ndim and not (square and not np.triu(array, 1).any()):
        raise InputError(
            f"{name} must be a number, a lower triangular matrix [K, K] (step k knows "
            f"x_0..x_k only) or {NESTEROV!r}, got shape {array.shape}"
        )
    return array


def _matrix(name: str, value: Any, named: np.ndarray) -> Any:
    """Return the number or the matrix that a field stands for."""
    if isinstance(value, str):
        return named
    value = value if isinstance(value, Tracer) else np.asarray(value)
    if np.ndim(value) and len(value) != len(named):
        raise InputError(f"{name} is for {len(value)} steps, depth is {len(named)}")
    return value


def _rows(matrix: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(matrix[k, : k + 1] for k in range(len(matrix)))


def _is_all(value: Any, number: float) -> bool:
    """Return whether a coefficient is known to be one number, so that it can go."""
    return not isinstance(value, jax.Array) and bool(
        np.all(np.asarray(value) == number)
    )


def _add_plain(x: jax.Array, xs: tuple, beta: Any) -> jax.Array:
    """Return x + Σ_j β_j x_j."""
    for j, source in enumerate(xs):
        if _is_all(beta[j], 0):
            continue
        if source.shape != x.shape:
            raise InputError(
                f"beta adds x_{j} of shape {source.shape} to x_{len(xs)} of shape "
                f"{x.shape}: a matrix beta needs equal channels, or a fixed 0 where "
                f"they differ"
            )
        x = x + jnp.asarray(beta[j], x.dtype) * source
    return x
