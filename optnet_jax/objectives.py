"""Table 1: the function that a feed-forward network minimises as it propagates.

Lemma 1: for W = U² symmetric positive definite, x_{k+1} = Φ(W x_k) is gradient descent
on f of (8) in the variable z = U x, and so on F(x) = f(U x).

Two entries of the printed table are corrected: softsign's Ψ for u ≤ 0 is
|u| - log(1 + |u|) (printed: log(u - 1), which does not exist there), and ELU's needs
-a to be continuous at 0.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from optnet_jax.errors import InputError

LEAKY_SLOPE = 0.01
"""Leaky ReLU's α in Table 1, jax.nn.leaky_relu's default."""

ELU_SCALE = 1.0
"""ELU's a in Table 1, jax.nn.elu's default."""

# B_2i / (2i + 1)! for i = 1, 2, ...: see _dilogarithm.
_DILOGARITHM_SERIES = (
    1 / 36,
    -1 / 3600,
    1 / 211680,
    -1 / 10886400,
    1 / 526901760,
    -691 / 16999766784000,
    1 / 1120863744000,
)


def _dilogarithm(u: jax.Array) -> jax.Array:
    """Return -Li₂(-e^u) for u ≤ 0, accurate relative to its size (about e^u).

    With y = log(1 + e^u) ≤ log 2 it is y + y²/4 + Σ_{i≥1} B_2i y^{2i+1} / (2i + 1)!,
    whose terms fall like (y/2π)^2i ≤ 0.012^i: seven reach double precision.
    """
    y = jnp.log1p(jnp.exp(u))
    square = y * y
    tail = jnp.zeros_like(y)
    for c in reversed(_DILOGARITHM_SERIES):
        tail = tail * square + c
    return y + square / 4 + y * square * tail


def _negative(u: jax.Array) -> jax.Array:
    """Return -|u|, with derivative +1 at 0 (abs would give 0, wrong for a branch)."""
    return jnp.where(u > 0, -u, u)


def _softplus_potential(u: jax.Array) -> jax.Array:
    # For u > 0 the inversion Li₂(-e^u) = -π²/6 - u²/2 - Li₂(-e^-u) keeps e^u finite.
    dilogarithm = _dilogarithm(_negative(u))
    return jnp.where(u > 0, np.pi**2 / 6 + u * u / 2 - dilogarithm, dilogarithm)


def _elu_potential(u: jax.Array) -> jax.Array:
    # Keeps expm1 finite where it is not used; jnp.minimum's slope at 0 is a half.
    negative = jnp.where(u > 0, 0, u)
    return jnp.where(u > 0, u * u / 2, ELU_SCALE * (jnp.expm1(negative) - negative))


def _swish_potential(u: jax.Array) -> jax.Array:
    # u²/2 + u log(1 + e^-u) - Li₂(-e^-u), with the inversion of softplus for u ≤ 0,
    # where u²/2 cancels.
    negative = _negative(u)
    dilogarithm = _dilogarithm(negative)
    log_term = u * jnp.log1p(jnp.exp(negative))
    return log_term + jnp.where(
        u > 0, u * u / 2 + dilogarithm, np.pi**2 / 6 - dilogarithm
    )


ACTIVATIONS: dict[str, tuple[Callable[[Any], jax.Array], Callable[[Any], jax.Array]]]
ACTIVATIONS = {
    "sigmoid": (jax.nn.sigmoid, jax.nn.softplus),
    "tanh": (jnp.tanh, lambda u: jnp.logaddexp(u, -u)),
    "softplus": (jax.nn.softplus, _softplus_potential),
    "softsign": (jax.nn.soft_sign, lambda u: jnp.abs(u) - jnp.log1p(jnp.abs(u))),
    "relu": (jax.nn.relu, lambda u: jnp.where(u > 0, u * u / 2, 0)),
    "leaky_relu": (
        jax.nn.leaky_relu,
        lambda u: jnp.where(u > 0, 1, LEAKY_SLOPE) * u * u / 2,
    ),
    "elu": (jax.nn.elu, _elu_potential),
    "swish": (jax.nn.swish, _swish_potential),
}
"""Table 1: name → (Φ, Ψ), elementwise, with Ψ' = Φ."""


def activation_pair(name: str) -> tuple[Callable, Callable]:
    """Return (Φ, Ψ) of a row of Table 1.

    Args:
        name: a key of :data:`ACTIVATIONS`.

    Raises:
        InputError: there is no such row.
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise InputError(
            f"unknown activation {name!r}: use one of {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


def _floating(name: str, value: Any) -> jax.Array:
    """Return an array of floating-point numbers: products of whole ones overflow."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        array = None
    if array is None or not jnp.issubdtype(array.dtype, jnp.number):
        raise InputError(f"{name} must be an array of numbers, got {value!r:.60}")
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(float)


def _vectors(name: str, value: Any, matrix: jax.Array) -> jax.Array:
    """Return floating-point vectors of the length that a matrix takes."""
    array, n = _floating(name, value), len(matrix)
    if array.shape[-1:] != (n,):
        raise InputError(f"{name} must be [..., {n}], got shape {array.shape}")
    return array


def _square(name: str, value: Any) -> jax.Array:
    """Return a square matrix of floating-point numbers."""
    matrix = _floating(name, value)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise InputError(f"{name} must be a square matrix, got shape {matrix.shape}")
    return matrix


def _symmetric(name: str, value: Any, tolerance: float = 1e-5) -> jax.Array:
    """Return a symmetric matrix; that a traced one is symmetric is taken on trust."""
    matrix = _square(name, value)
    if isinstance(matrix, Tracer):
        return matrix
    asymmetry = jnp.abs(matrix - matrix.T).max()
    if not asymmetry <= tolerance * jnp.abs(matrix).max():
        raise InputError(
            f"{name} must be symmetric (Lemma 1): it and its transpose differ by "
            f"{asymmetry:.3g}; use ({name} + {name}.T) / 2"
        )
    return matrix


def objective(activation: str, u: Any) -> Callable[[Any], jax.Array]:
    """Return f of (8): f(z) = ‖z‖²/2 - Σ_i Ψ(U_i·z).

    >>> import jax.numpy as jnp
    >>> float(objective("relu", jnp.eye(2))(jnp.array([3.0, -4.0])))
    8.0

    Args:
        activation: a name of Table 1.
        u: U, symmetric. [n, n]

    Returns:
        A function from z, [n] or [..., n], to f(z), [] or [...].

    Raises:
        InputError: an unknown activation, or U is not symmetric.
    """
    _, potential = activation_pair(activation)
    u = _symmetric("U", u)

    def f(z: Any) -> jax.Array:
        z = _vectors("z", z, u)
        return jnp.sum(z * z / 2 - potential(jnp.dot(z, u)), axis=-1)

    return f


def gradient(activation: str, u: Any) -> Callable[[Any], jax.Array]:
    """Return ∇f of (9): ∇f(z) = z - U Φ(U z); arguments as of :func:`objective`."""
    step = gradient_step(activation, u)
    return lambda z: _floating("z", z) - step(z)


def gradient_step(activation: str, u: Any) -> Callable[[Any], jax.Array]:
    """Return z ↦ z - ∇f(z) = U Φ(U z) of (10): the operator T of optimisation.

    Its arguments are those of :func:`objective`; z is [n] or [..., n].
    """
    phi, _ = activation_pair(activation)
    u = _symmetric("U", u)
    return lambda z: jnp.dot(phi(jnp.dot(_vectors("z", z, u), u)), u)


def layer(activation: str, w: Any) -> Callable[[Any], jax.Array]:
    """Return x ↦ Φ(W x) of (7): the operator T of propagation.

    Args:
        activation: a name of Table 1.
        w: W. [n, n]

    Returns:
        A function from [n] or [..., n] to the same.

    Raises:
        InputError: an unknown activation, or W is not square.
    """
    phi, _ = activation_pair(activation)
    w = _square("W", w)
    return lambda x: phi(jnp.dot(_vectors("x", x, w), w.T))


def network_objective(activation: str, w: Any) -> Callable[[Any], jax.Array]:
    """Return F of Lemma 1: F(x) = f(U x), U = √W; propagation descends on it.

    Args:
        activation: a name of Table 1.
        w: W, symmetric positive definite. [n, n]

    Returns:
        A function from x, [n] or [..., n], to F(x), [] or [...].

    Raises:
        InputError: an unknown activation, or W is not symmetric positive definite.
    """
    u = square_root(w)
    f = objective(activation, u)
    return lambda x: f(jnp.dot(_vectors("x", x, u), u))


def square_root(w: Any) -> jax.Array:
    """Return U = √W, the symmetric positive definite square root.

    Args:
        w: W. [n, n]

    Returns:
        U with U U = W. [n, n]

    Raises:
        InputError: W is traced, not symmetric (to 1e-6 of its largest entry) or not
            positive definite: Lemma 1 holds for such W only.
    """
    if isinstance(_symmetric("W", w, 1e-6), Tracer):
        raise InputError("W is traced, and its root needs its numbers: take it before")
    matrix = np.asarray(w)  # double precision stays double without JAX's x64
    if matrix.dtype == np.float16:  # which LAPACK does not have
        matrix = matrix.astype(np.float32)
    eigenvalues, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    # Below this eigh cannot tell an eigenvalue from 0.
    rounding = len(matrix) * np.finfo(eigenvalues.dtype).eps * eigenvalues[-1]
    if eigenvalues[0] <= rounding:
        raise InputError(
            f"W must be positive definite (Lemma 1): its smallest eigenvalue is "
            f"{eigenvalues[0]:.3g}; add a multiple of the identity"
        )
    return jnp.asarray((vectors * np.sqrt(eigenvalues)) @ vectors.T)
