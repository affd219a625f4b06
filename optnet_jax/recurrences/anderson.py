"""Anderson acceleration: (18) with the α that a least-squares problem chooses."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from optnet_jax.recurrences.base import Coefficients, Transform, check_depth


@dataclasses.dataclass(frozen=True)
class Anderson:
    """x_{k+1} = Σ_j α_j T(x_j) over the last m + 1 iterates, Σ_j α_j = 1.

    α minimises ‖Σ_j α_j f_j‖, f_j = T(x_j) - x_j (type II). With the differences
    Δf of the m last steps and γ = argmin ‖f_k - Σ_i γ_i Δf_i‖ that is

      x_{k+1} = T(x_k) - Σ_i γ_i (Δf_i + Δx_i).

    Where T is linear and m ≥ k, x_{k+1} = T(x), x the k-th iterate of GMRES. Each
    sample, an entry of axis 0 where x has more than one axis, has an α of its own. As α
    depends on the iterates and their norm, which U changes, Lemma 1 does not hold, and
    there are no characteristic roots. Sources: Anderson (1965), "Iterative Procedures
    for Nonlinear Integral Equations", J. ACM 12 (4); Walker, Ni (2011), "Anderson
    Acceleration for Fixed-Point Iterations", SIAM J. Numer. Anal. 49 (4).

    Attributes:
        memory: m.

    Raises:
        InputError: a memory that is no whole number of at least 1.
    """

    memory: int = 5

    def __post_init__(self):
        check_depth(self.memory, "memory")

    def coefficients(self, depth: int) -> Coefficients:
        """Return memory, how many differences step k may use: min(k, m), [depth]."""
        steps = np.arange(check_depth(depth), dtype=float)
        return {"memory": np.minimum(steps, self.memory)}

    def init(self, x0: Any) -> tuple:
        """Return (x_0, T(x_{-1}), f_{-1}) and no differences, all but x_0 zeros."""
        zero = jnp.zeros_like(x0)
        zeros = jnp.stack([zero] * self.memory)
        return x0, zero, zero, zeros, zeros

    def step(self, transform: Transform, state: tuple, c: Coefficients) -> tuple:
        """Return x_{k+1}, T(x_k), f_k and their differences, the newest first."""
        x, t_previous, f_previous, ts, fs = state
        t = transform(x)
        f = t - x
        ts = jnp.concatenate([(t - t_previous)[None], ts[:-1]])
        fs = jnp.concatenate([(f - f_previous)[None], fs[:-1]])
        # In the first steps the last of them are no differences yet.
        known = jnp.arange(self.memory) < c["memory"]
        gamma = _least_squares(_by_sample(fs, 1), _by_sample(f, 0), known)
        change = jnp.einsum("bi,ibn->bn", gamma, _by_sample(ts, 1))
        return t - change.reshape(x.shape), t, f, ts, fs

    def output(self, state: tuple) -> Any:
        """Return x_K."""
        return state[0]


def _by_sample(x: Any, axis: int) -> Any:
    """Return [..., samples, n], at least in float32; ``axis`` is that of the samples.

    >>> _by_sample(jnp.ones((3, 2, 4, 5)), 1).shape, _by_sample(jnp.ones(4), 0).shape
    ((3, 2, 20), (1, 4))
    """
    is_one = x.ndim <= axis + 1
    samples, rest = (
        (1, x.shape[axis:]) if is_one else (x.shape[axis], x.shape[axis + 1 :])
    )
    x = x.reshape(*x.shape[:axis], samples, math.prod(rest))
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _least_squares(fs: Any, f: Any, known: Any) -> Any:
    """Return argmin_γ ‖f - Σ_i γ_i fs_i‖, [samples, m], γ_i = 0 where it is not known.

    By the normal equations, whose matrix is m × m, with a ridge of the size of its
    rounding: differences that others explain would have any γ. fs is [m, samples, n].
    """
    fs = jnp.where(known[:, None, None], fs, 0)
    # No square overflows or is lost; γ does not depend on it, so it has no gradient.
    largest = jnp.maximum(jnp.abs(fs).max((0, 2)), jnp.abs(f).max(1))
    largest = lax.stop_gradient(jnp.where(largest == 0, 1, largest))[:, None]
    fs, f = fs / largest[None], f / largest
    gram = jnp.einsum("ibn,jbn->bij", fs.conj(), fs)
    right = jnp.einsum("ibn,bn->bi", fs.conj(), f)
    sizes = jnp.diagonal(gram, axis1=1, axis2=2)
    ridge = jnp.where(sizes == 0, 1, 10 * jnp.finfo(gram.dtype).eps * sizes)
    gram = gram + ridge[:, :, None] * jnp.eye(len(fs))[None]
    return jnp.linalg.solve(gram, right[..., None])[..., 0]
