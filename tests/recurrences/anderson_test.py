"""Anderson's α from NumPy's least squares with the constraint, and GMRES."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.recurrences import Anderson, GradientDescent, iterate


def contraction(size, seed):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(size, size))
    return 0.9 * a / np.linalg.norm(a, 2), rng.normal(size=size)


def constrained(transform, x, memory, depth):
    """Return x_0, x_1, ... with α of (18) from an elimination of Σ α = 1."""
    xs, ts = [x], []
    for _ in range(depth):
        ts.append(transform(xs[-1]))
        last = range(max(0, len(ts) - 1 - memory), len(ts))
        f = np.array([ts[j] - xs[j] for j in last])
        rest = np.linalg.lstsq((f[:-1] - f[-1]).T, -f[-1], rcond=None)[0]
        alpha = np.append(rest, 1 - rest.sum())
        xs.append(alpha @ np.array([ts[j] for j in last]))
    return np.array(xs)


@pytest.mark.parametrize("memory", [1, 3])
def test_is_the_constrained_sum_for_each_sample(float64, memory):
    w, b = contraction(6, 0)
    starts = np.random.default_rng(1).normal(size=(2, 6))
    found = iterate(
        Anderson(memory),
        lambda x: jnp.tanh(x @ w.T + b[None]),
        starts,
        8,
        trajectory=True,
    )
    for sample, x0 in enumerate(starts):
        expected = constrained(lambda x: np.tanh(w @ x + b), x0, memory, 8)
        np.testing.assert_allclose(found[:, sample], expected, atol=1e-12)


def test_on_a_linear_problem_it_is_gmres(float64):
    w, b = contraction(8, 2)
    x = np.zeros(8)
    found = iterate(Anderson(8), lambda x: w @ x + b, x, 6, trajectory=True)
    krylov = np.array([np.linalg.matrix_power(np.eye(8) - w, k) @ b for k in range(5)])
    basis = np.linalg.qr(krylov.T)[0]
    for k in range(1, 6):
        q = basis[:, :k]
        gmres = q @ np.linalg.lstsq(q - w @ q, b, rcond=None)[0]
        np.testing.assert_allclose(found[k + 1], w @ gmres + b, atol=1e-12)


def test_with_no_memory_it_is_gradient_descent():
    x = jnp.linspace(-1, 1, 4)
    none = {"memory": np.zeros(5)}
    np.testing.assert_array_equal(
        iterate(Anderson(2), jnp.sin, x, 5, coefficients=none),
        iterate(GradientDescent(), jnp.sin, x, 5),
    )


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_squares_neither_overflow_nor_vanish(size):
    w, b = (jnp.asarray(each, jnp.float32) for each in contraction(4, 3))

    def run(scale):
        return iterate(Anderson(3), lambda x: w @ x + scale * b, jnp.zeros(4), 4)

    np.testing.assert_allclose(run(size) / size, run(1.0), rtol=1e-3)


def test_a_fixed_point_stays_and_has_gradients():
    """All differences are 0 there: no γ is better than another."""

    def norm(x):
        return iterate(Anderson(3), lambda y: y * y, x, 6).sum()

    value, slope = jax.value_and_grad(norm)(jnp.array([0.0, 1.0]))
    assert value == 1
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("shape", [(), (0, 3), (1,)])
def test_no_sample_and_a_single_number_are_taken(shape):
    assert iterate(Anderson(2), jnp.cos, jnp.ones(shape), 4).shape == shape


@pytest.mark.parametrize("memory", [0, True, 2.0, None])
def test_a_memory_that_is_none_is_refused(memory):
    with pytest.raises(InputError, match="memory must be a whole number"):
        Anderson(memory)
