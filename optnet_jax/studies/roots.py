"""Characteristic roots of a recurrence, taken from its own step.

Let T(x) = λ x with x a scalar: a step with fixed coefficients is then a linear map of
the state, and its matrix is the Jacobian of ``step``. Its eigenvalues are the roots of
the recurrence's characteristic polynomial, ρ² - (λ + β1) ρ - β2 for (16); the largest
modulus is how much a layer amplifies in the long run. λ = 0 asks what the recurrence
does by itself, and λ in [0, 1] is the spectrum of T(z) = z - ∇f(z) for a convex,
1-smooth quadratic f.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from optnet_jax.errors import InputError
from optnet_jax.recurrences import Recurrence, takes_history
from optnet_jax.recurrences.iterate import prepared

# Two roots of a conjugate pair come with the rounding of a float64 eigenvalue solver.
REAL = 1e-7


@dataclasses.dataclass(frozen=True)
class Roots:
    """The characteristic roots at one λ.

    Attributes:
        values: the roots, largest modulus first, complex. [size of the state]
    """

    values: np.ndarray

    @property
    def radius(self) -> float:
        """The spectral radius: below 1 the state dies out, above 1 it grows."""
        return float(np.abs(self.values[0]))

    @property
    def angle(self) -> float:
        """The angle of the leading root, in degrees from 0 to 180."""
        if not self.radius:
            return 0.0  # of 0, or -0, there is none
        return abs(float(np.degrees(np.angle(self.values[0]))))

    @property
    def period(self) -> float:
        """The number of layers after which the leading mode turns once; ∞ if never."""
        return 360 / self.angle if self.angle > REAL else np.inf


def step_matrix(
    recurrence: Recurrence, slope: float | np.ndarray = 0.0, depth: int = 100
) -> np.ndarray:
    """Return the matrix of one step on the state for T(x) = slope · x, x a scalar.

    Args:
        recurrence: any recurrence, a user's own included.
        slope: λ, or several. [...]
        depth: the number of steps; the coefficients are those of the last one, by
            default near their limit in (3).

    Returns:
        [..., size, size] with the state's leaves in their order.

    Raises:
        InputError: coefficients that :func:`~optnet_jax.recurrences.iterate` refuses,
            a step that is not linear in the state when T is, or a state that grows.
    """
    if takes_history(recurrence):
        raise InputError(
            f"{type(recurrence).__name__} takes the whole history, which grows: no one "
            f"matrix steps it, and it has no characteristic roots"
        )
    with jax.enable_x64(True):
        coefficients = jax.tree.map(
            lambda c: jnp.asarray(c)[-1], prepared(recurrence, depth, jnp.float64)
        )
        zero, unravel = ravel_pytree(recurrence.init(jnp.zeros(())))

        def advance(flat: jax.Array, slope: jax.Array) -> jax.Array:
            state = recurrence.step(lambda x: slope * x, unravel(flat), coefficients)
            return ravel_pytree(state)[0]

        @jax.jit
        def matrices(slopes: jax.Array) -> jax.Array:
            return jax.vmap(lambda slope: jax.jacobian(advance)(zero, slope))(slopes)

        slopes = jnp.asarray(slope, float)
        found = matrices(slopes.ravel())
        # A kink at 0 shows on one side of it.
        for x in (jnp.ones(len(zero)), -jnp.ones(len(zero))):
            if not np.allclose(advance(x, slopes.ravel()[0]), found[0] @ x):
                raise InputError(
                    f"a step of {recurrence!r} is not linear in its state even where T "
                    f"is: it has no characteristic roots"
                )
        return np.asarray(found).reshape(*slopes.shape, *found.shape[1:])


def characteristic_roots(
    recurrence: Recurrence, slope: float = 0.0, depth: int = 100
) -> Roots:
    """Return the characteristic roots at T(x) = slope · x, see :func:`step_matrix`.

    >>> from optnet_jax.recurrences import HeavyBall
    >>> roots = characteristic_roots(HeavyBall(1, -1))  # HB-Net
    >>> round(roots.radius, 6), round(roots.angle, 6), round(roots.period, 6)
    (1.0, 60.0, 6.0)
    """
    values = np.linalg.eigvals(step_matrix(recurrence, slope, depth))
    return Roots(values[np.argsort(-np.abs(values), kind="stable")])


def radius_over_slopes(
    recurrence: Recurrence, slopes: np.ndarray, depth: int = 100
) -> np.ndarray:
    """Return the spectral radius at each λ: [len(slopes)]."""
    matrices = step_matrix(recurrence, slopes, depth)
    return np.abs(np.linalg.eigvals(matrices)).max(-1)
