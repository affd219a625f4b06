"""T of sparse coding: minimisers by coordinate descent, networks by their methods."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.recurrences import iterate
from optnet_jax.recurrences.methods import find, minimisers
from optnet_jax.structures import Propagation, Shrinkage, shrinkage

RNG = np.random.default_rng(1)
A = RNG.normal(size=(6, 10)) / 6**0.5
B = RNG.normal(size=(3, 6))
PENALTY = 0.6
KEYS = [method.key for method in minimisers() if not method.tuned]


def coordinate_descent(b, sweeps=400):
    """Return the minimiser of ‖A x - b‖²/2 + λ‖x‖₁, one entry after the other."""
    x, squares = np.zeros(A.shape[1]), (A**2).sum(0)
    for _ in range(sweeps):
        for i, column in enumerate(A.T):
            rho = column @ (b - A @ x) + squares[i] * x[i]
            x[i] = np.sign(rho) * max(abs(rho) - PENALTY, 0) / squares[i]
    return x


@pytest.fixture(scope="module")
def minimum():
    found = np.array([coordinate_descent(b) for b in B])
    # Its own check, by the conditions of Karush, Kuhn and Tucker.
    correlation = (B - found @ A.T) @ A
    assert np.abs(correlation).max() <= PENALTY + 1e-9
    on = found != 0
    assert on.any()
    np.testing.assert_allclose(correlation[on], PENALTY * np.sign(found[on]), rtol=1e-9)
    return found


@pytest.mark.parametrize("key", KEYS)
def test_every_method_ends_at_the_minimiser(key, minimum, float64):
    step = functools.partial(shrinkage(A, PENALTY), b=jnp.asarray(B))
    found = iterate(find(key).recurrence(), step, jnp.zeros((3, 10)), 1500)
    np.testing.assert_allclose(found, minimum, atol=1e-6 if "agd" in key else 1e-9)


def test_gd_is_ista_and_agd_is_fista_as_printed(float64):
    smoothness = np.linalg.eigvalsh(A.T @ A)[-1]

    def prox_step(y):
        z = y - (y @ A.T - B) @ A / smoothness
        return np.sign(z) * np.maximum(np.abs(z) - PENALTY / smoothness, 0)

    ista = fista = y = np.zeros((3, 10))
    t = 1.0
    for _ in range(30):
        ista = prox_step(ista)
        fista, old = prox_step(y), fista
        t, before = (1 + (1 + 4 * t**2) ** 0.5) / 2, t
        y = fista + (before - 1) / t * (fista - old)
    step = functools.partial(shrinkage(A, PENALTY), b=jnp.asarray(B))
    for key, expected in (("gd", ista), ("agd", fista)):
        found = iterate(find(key).recurrence(), step, jnp.zeros((3, 10)), 30)
        np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize(
    ("key", "tied", "coupled"),
    [
        ("gd", True, False),
        ("agd", False, False),
        ("admm", True, True),
        ("gd", False, True),
    ],
)
def test_a_network_begins_as_its_method(key, tied, coupled, float64):
    recurrence, x0, b = find(key).recurrence(), jnp.zeros((3, 10)), jnp.asarray(B)
    network = Propagation(recurrence, Shrinkage(A, PENALTY, coupled), 5, tied=tied)
    variables = network.init(jax.random.key(0), x0, b=b)
    step = functools.partial(shrinkage(A, PENALTY), b=b)
    np.testing.assert_allclose(
        network.apply(variables, x0, trajectory=True, b=b),
        iterate(recurrence, step, x0, 5, trajectory=True),
        atol=1e-13,
    )
    shapes = {leaf.shape for leaf in jax.tree.leaves(variables)}
    own = {(), (6, 10)} if coupled else {(), (6, 10), (10, 10)}
    assert shapes == (own if tied else {(5, *shape) for shape in own})


def test_a_learned_layer_is_what_its_weights_say():
    w, v = RNG.normal(size=(6, 10)), RNG.normal(size=(10, 10))
    x = RNG.normal(size=(3, 10))

    def soft(z):
        return np.where(z > 0.4, z - 0.4, np.where(z < -0.4, z + 0.4, 0))

    own = {"encode": w, "threshold": 0.4}
    found = Shrinkage(A, 1.0).apply({"params": {**own, "recur": v}}, x, B)
    np.testing.assert_allclose(found, soft(B @ w + x @ v), atol=1e-5)
    found = Shrinkage(A, 1.0, coupled=True).apply({"params": own}, x, B)
    np.testing.assert_allclose(found, soft(x + (B - x @ A.T) @ w), atol=1e-5)


@pytest.mark.parametrize(
    ("matrix", "penalty", "says"),
    [
        (np.zeros((2, 3)), 0.1, "not all 0"),
        (np.ones(3), 0.1, r"\[m, n\]"),
        ([[1.0, np.nan]], 0.1, "matrix must be finite"),
        (A, -1.0, "penalty=-1.0 must be at least 0"),
        (A, "small", "penalty='small' must be a"),
    ],
)
def test_what_cannot_be_is_refused(matrix, penalty, says):
    for made in (Shrinkage, shrinkage):
        with pytest.raises(InputError, match=says):
            made(matrix, penalty)


def test_b_of_another_length_is_refused():
    with pytest.raises(InputError, match=r"b must be \[..., 6\] and x \[..., 10\]"):
        shrinkage(A, 0.1)(jnp.zeros(10), jnp.zeros(5))
    with pytest.raises(InputError, match=r"b must be \[..., 6\] and x \[..., 10\]"):
        Shrinkage(A, 0.1).init(jax.random.key(0), jnp.zeros(6), jnp.zeros(6))


def test_whole_numbers_are_a_matrix():
    step = shrinkage([[2, 0], [0, 1]], 1)
    assert step(jnp.zeros(2), jnp.array([3.0, 8.0])).tolist() == [1.25, 1.75]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_matrix_may_be_of_less_than_32_bits(dtype):
    a, x, b = (jnp.asarray(v, dtype) for v in (A, np.zeros((3, 10)), B))
    found = shrinkage(a, PENALTY)(x, b)
    expected = shrinkage(A, PENALTY)(jnp.zeros((3, 10)), jnp.asarray(B))
    np.testing.assert_allclose(found.astype(float), expected, atol=0.05)
    variables = Shrinkage(a, PENALTY).init(jax.random.key(0), x, b)
    assert variables["params"]["encode"].dtype == found.dtype == a.dtype
