"""The relaxed sum over all preceding iterates (18)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from optnet_jax.errors import InputError
from optnet_jax.recurrences.base import (
    Coefficients,
    Transform,
    as_field,
    check_depth,
    numbers,
)
from optnet_jax.recurrences.coefficients import h_matrix


@dataclasses.dataclass(frozen=True)
class HistorySum:
    """x_{k+1} = Σ_{j≤k} α^j_{k+1} T_j(x_j) + Σ_{j≤k} β^j_{k+1} x_j.

    (18) with T evaluated once at each x_j. Arbitrary coefficients need the whole
    history: O(K) arrays of state, O(K²) work. Where the coefficients are those of
    (5), :class:`~optnet_jax.recurrences.NesterovSum` gives the same iterates from two
    arrays. (In AGD-Net each pair (k+1, j) has a T of its own: see
    :mod:`optnet_jax.structures`.)

    Attributes:
      alpha: α, row k holds α^0_{k+1}..α^k_{k+1}, zeros to its right. [K, K]
      beta: β, likewise. [K, K]

    Raises:
      InputError: alpha and beta are not square matrices of one size, or traced.
    """

    alpha: Any
    beta: Any

    def __post_init__(self):
        alpha, beta = numbers("alpha", self.alpha), numbers("beta", self.beta)
        if alpha.ndim != 2 or alpha.shape[0] != alpha.shape[1] or not alpha.size:
            raise InputError(f"alpha must be a matrix [K, K], got shape {alpha.shape}")
        if beta.shape != alpha.shape:
            raise InputError(
                f"beta must have alpha's shape {alpha.shape}, got {beta.shape}"
            )
        if np.triu(alpha, 1).any() or np.triu(beta, 1).any():
            raise InputError(
                "alpha and beta must be lower triangular: step k knows x_0..x_k only"
            )
        object.__setattr__(self, "alpha", as_field("alpha", alpha))
        object.__setattr__(self, "beta", as_field("beta", beta))

    @classmethod
    def nesterov(cls, depth: int) -> HistorySum:
        """Return (13) as printed: α = h, β^j_{k+1} = [j = k] - h_{k+1,j}.

        Args:
          depth: the number of steps K.
        """
        h = h_matrix(depth)
        return cls(h, np.eye(depth) - h)

    def coefficients(self, depth: int) -> Coefficients:
        """Return alpha and beta, [depth, depth] each.

        Raises:
          InputError: ``depth`` is not the size of the matrices.
        """
        if check_depth(depth) != len(self.alpha):
            raise InputError(
                f"alpha and beta are for {len(self.alpha)} steps, depth is {depth}"
            )
        return {"alpha": np.array(self.alpha), "beta": np.array(self.beta)}

    def init(self, x0: Any) -> tuple:
        """Return (x_0..x_K, T_0(x_0)..T_{K-1}(x_{K-1}), k), not yet known ones 0."""
        depth = len(self.alpha)
        iterates = jnp.zeros((depth + 1, *x0.shape), x0.dtype).at[0].set(x0)
        return iterates, jnp.zeros_like(iterates[:-1]), jnp.zeros((), jnp.int32)

    def step(self, transform: Transform, state: tuple, c: Coefficients) -> tuple:
        """Return the history with x_{k+1} and T_k(x_k) written into it."""
        x, t, k = state
        t = t.at[k].set(transform(x[k]))
        x_next = jnp.tensordot(c["alpha"], t, 1) + jnp.tensordot(c["beta"], x[:-1], 1)
        return x.at[k + 1].set(x_next.astype(x.dtype)), t, k + 1

    def output(self, state: tuple) -> Any:
        """Return x_k, the newest iterate."""
        x, _, k = state
        return x[k]
