"""The operator T of sparse coding (§1.2), as it is and with learned weights.

min_x ‖A x - b‖²/2 + λ‖x‖₁ is minimised where x = T(x, b) = S_{λ/L}(x - Aᵀ(A x - b)/L),
L = ‖A‖²: a gradient step, then the soft threshold S. Over it (7) is ISTA, (12) with θ_k
FISTA (Beck and Teboulle, 2009), and (14) linearised ADMM.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.core import Tracer
from jax.typing import ArrayLike

from optnet_jax.errors import InputError
from optnet_jax.recurrences.base import numbers
from optnet_jax.structures import fields


def soft_threshold(x: jax.Array, threshold: Any) -> jax.Array:
    """Return S_θ(x) = sign(x) max(|x| - θ, 0), the proximal map of θ‖x‖₁.

    Args:
        x: of any shape.
        threshold: θ ≥ 0.
    """
    return x - jnp.clip(x, -threshold, threshold)


def shrinkage(matrix: ArrayLike, penalty: fields.Penalty) -> Callable:
    """Return T, (x, b) ↦ S_{λ/L}(x - Aᵀ(A x - b)/L).

    >>> t = shrinkage([[2.0, 0.0]], penalty=0.4)
    >>> t(jnp.zeros(2), jnp.array([1.0])).round(3)
    Array([0.4, 0. ], dtype=float32)

    Args:
        matrix: A. [m, n]
        penalty: λ ≥ 0.

    Returns:
        A function of x, [..., n], and b, [..., m], to [..., n].

    Raises:
        InputError: A is no matrix of finite numbers, or 0; λ < 0.
    """
    fields.check(shrinkage, {"penalty": penalty})
    a = _checked(matrix)
    scaled, threshold = _step(a, penalty)

    def transform(x: jax.Array, b: jax.Array) -> jax.Array:
        _check_measured(a, x, b)
        return soft_threshold(x + (b - x @ a.T) @ scaled, threshold)

    return transform


class Shrinkage(nn.Module):
    """(x, b) ↦ S_θ(W b + V x), W, V and θ trained: a layer of LISTA.

    They begin as W = Aᵀ/L, V = I - Aᵀ A/L, θ = λ/L, where it is :func:`shrinkage`. A
    network is a :class:`Propagation` of it that is given b beside x_0:
    ``Propagation(recurrence, Shrinkage(a, penalty), depth).apply(variables, x0, b=b)``.
    Sources: Gregor and LeCun, ICML 2010; coupled: Chen et al., NeurIPS 2018.

    Attributes:
        matrix: A. [m, n]
        penalty: λ.
        coupled: V = I - W A, with the given A: x + W (b - A x), a third of the weights.

    Raises:
        InputError: A is no matrix of finite numbers, or 0; λ < 0.
    """

    matrix: ArrayLike
    penalty: fields.Penalty
    coupled: bool = False

    def __post_init__(self):
        fields.check(Shrinkage, vars(self))
        _checked(self.matrix)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, b: jax.Array) -> jax.Array:
        """Return [..., n] of x, [..., n], and b, [..., m]."""
        a = _checked(self.matrix)
        _check_measured(a, x, b)
        w = self.param("encode", lambda _: _step(a, self.penalty)[0])
        threshold = self.param("threshold", lambda _: _step(a, self.penalty)[1])
        if self.coupled:
            return soft_threshold(x + (b - x @ a.T) @ w, threshold)
        v = self.param("recur", lambda _: jnp.eye(a.shape[1]) - a.T @ w)
        return soft_threshold(b @ w + x @ v, threshold)


def _step(a: jax.Array, penalty: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Return A/L and λ/L."""
    at_least = a.astype(jnp.promote_types(a.dtype, jnp.float32))  # bfloat16 has no norm
    smoothness = jnp.linalg.norm(at_least, 2) ** 2
    return tuple((v / smoothness).astype(a.dtype) for v in (a, penalty))


def _checked(matrix: ArrayLike) -> jax.Array:
    if not isinstance(matrix, Tracer):
        values = numbers("matrix", matrix)
        if values.ndim != 2 or not np.any(values):
            raise InputError(
                f"matrix must be A, [m, n], not all 0; got shape {values.shape}"
            )
    return 1.0 * jnp.asarray(matrix)  # no whole numbers


def _check_measured(a: jax.Array, x: jax.Array, b: jax.Array) -> None:
    shapes = jnp.shape(b)[-1:] + jnp.shape(x)[-1:]
    if shapes != a.shape:
        raise InputError(
            f"A is {a.shape}: b must be [..., {a.shape[0]}] and x [..., {a.shape[1]}], "
            f"got {jnp.shape(b)} and {jnp.shape(x)}"
        )
