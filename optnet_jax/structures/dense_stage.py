"""The sum over all preceding iterates as a linen module: (18) in the form of (21)."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.core import Tracer

from optnet_jax.errors import InputError
from optnet_jax.ops.gradient import with_gradient
from optnet_jax.recurrences.base import check_depth
from optnet_jax.recurrences.coefficients import momentum
from optnet_jax.structures import fields, template


class DenseStage(nn.Module):
    """z_{k+1} = Σ_j α^j_{k+1} T_{k+1,j}(z_j) + β (z_k - Σ_j h_{k+1,j} z_j), j ≤ k (21).

    Each pair (k+1, j) has a T of its own. How the sum over j is computed is the
    ``combination``'s business, so that it can be one operation instead of k+1.

    The last term needs no sum. With d_{k+1} = Σ_j h_{k+1,j} z_j - z_k, (5) becomes
    d_1 = 0, d_{k+1} = β_{k+1} (z_k + d_k): the term is -β d_{k+1}, a running discounted
    sum of z_1..z_k. (h_{k+1,0} = 0 for k ≥ 1 and z_0 - h_{1,0} z_0 = 0, so z_0 may have
    another number of channels than the rest.)

    DenseNet is α ≡ 1, β = 0, with no parameters but the transforms' (Table 3).

    Attributes:
      combination: (z_0..z_k, α^0_{k+1}..α^k_{k+1}) -> Σ_j α^j_{k+1} T_{k+1,j}(z_j), a
        linen module (a template: each k has a copy of its own, ``layer_k``). α is None
        where all of it is the constant 1.
      depth: K, the number of new iterates.
      alpha: α, a scalar or lower triangular [K, K], row k for z_{k+1}.
      beta: β.
      learned: which of "alpha" and "beta" are trained, from the values above on. The
        parameter ``alpha`` is [K (K+1) / 2], the rows one after the other;
        :func:`alpha_matrix` makes the triangle of it.
      remat: recompute each combination in the backward pass instead of storing what is
        inside it.
    """

    combination: Any
    depth: int
    alpha: Any = 1.0
    beta: float = 0.0
    learned: tuple[str, ...] = ()
    remat: bool = False

    def __post_init__(self):
        fields.check_module(self)
        if np.ndim(self.beta):
            raise InputError(f"beta must be a number, got shape {np.shape(self.beta)}")
        super().__post_init__()

    @nn.compact
    def __call__(self, z0: jax.Array) -> tuple[jax.Array, ...]:
        """Return z_0..z_K.

        Args:
          z0: [B, ..., C_0].

        Returns:
          K + 1 arrays that differ in their last axis only.

        Raises:
          InputError: alpha that is not a scalar or lower triangular [K, K], or a
            learned name other than "alpha" and "beta".
        """
        alphas, beta = self._coefficients()
        betas = momentum(check_depth(self.depth) + 1)
        iterates, d = [z0], None
        for k in range(self.depth):
            z = self._layer(k)(tuple(iterates), alphas[k])
            if beta is not None and k > 0:
                newest = iterates[-1]
                sum_ = newest if d is None else newest + d
                d = jnp.asarray(betas[k + 1], newest.dtype) * sum_
                z = z - jnp.asarray(beta, newest.dtype) * _own_gradient(d)
            iterates.append(z)
        return tuple(iterates)

    def _layer(self, k: int) -> Any:
        layer = template.copy(self.combination)
        if isinstance(layer, nn.Module):
            layer = layer.clone(parent=self, name=f"layer_{k}")
        return functools.partial(nn.remat(_call), layer) if self.remat else layer

    def _coefficients(self) -> tuple[list, Any]:
        """Return the rows of α (None: all 1) and β (None: 0)."""
        rows = alpha_rows(self.alpha, self.depth)
        for name in self.learned:
            if name not in ("alpha", "beta"):
                raise InputError(
                    f"{name!r} is no coefficient of DenseStage: it has alpha, beta"
                )
        beta: Any = self.beta
        if not isinstance(beta, Tracer) and not beta:
            beta = None
        if "beta" in self.learned:
            beta = self.param("beta", lambda _: jnp.asarray(self.beta, jnp.float32))
        if "alpha" in self.learned:
            packed = np.concatenate(rows)
            alpha = self.param("alpha", lambda _: jnp.asarray(packed, jnp.float32))
            ends = np.cumsum([len(row) for row in rows])
            return [alpha[e - k - 1 : e] for k, e in enumerate(ends)], beta
        return [None if (row == 1).all() else row for row in rows], beta


def _identity(x: jax.Array) -> jax.Array:
    """Return x; its gradient is computed once and kept.

    The gradients of d_1..d_K form a chain of sums, which XLA:CPU otherwise fuses into
    each of its K consumers and computes anew there: 1.10 times the step of DenseNet-40
    (1.17 times in a network of one stage) instead of 1.00 (1.03). It drops an
    optimization_barrier before it fuses, but it does not fuse across a matrix product,
    not even with the identity.
    """
    return x


_own_gradient = with_gradient(
    _identity,
    lambda x: (x, None),
    lambda _, g: (
        jnp.tensordot(g, jnp.eye(g.shape[-1], dtype=g.dtype), 1, precision="highest"),
    ),
)


def _call(layer: Any, sources: tuple, alpha: Any) -> jax.Array:
    return layer(sources, alpha)


def alpha_rows(alpha: Any, depth: int) -> list[np.ndarray]:
    """Return α^0_{k+1}..α^k_{k+1} for each k.

    Args:
      alpha: a scalar, or lower triangular [depth, depth].
      depth: the number of rows.

    Returns:
      Arrays of 1, 2, ..., depth entries.

    Raises:
      InputError: alpha is neither, or traced.
    """
    if isinstance(alpha, Tracer):
        raise InputError(
            "alpha is traced, and a stage needs its numbers: train it as a parameter "
            'with learned=("alpha",)'
        )
    matrix = np.asarray(alpha, float)
    if matrix.ndim == 0:
        matrix = np.tril(np.full((depth, depth), matrix))
    if matrix.shape != (depth, depth) or np.triu(matrix, 1).any():
        raise InputError(
            f"alpha must be a scalar or lower triangular, [{depth}, {depth}], "
            f"got shape {matrix.shape}"
        )
    return [matrix[k, : k + 1] for k in range(depth)]


def alpha_matrix(packed: Any) -> np.ndarray:
    """Return the parameter ``alpha`` of a stage as a matrix: a heat map's data.

    >>> alpha_matrix([1.0, 2.0, 3.0]).tolist()
    [[1.0, 0.0], [2.0, 3.0]]

    Args:
      packed: [K (K+1) / 2], the rows of the triangle one after the other.

    Returns:
      [K, K], row k holds α^0_{k+1}..α^k_{k+1}, zeros to its right.

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
