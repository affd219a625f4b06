import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy.integrate import quad

from optnet_jax import objectives
from optnet_jax.errors import InputError
from optnet_jax.objectives import ACTIVATIONS

# Table 1 as printed (with its two errata), in arbitrary precision.
PRINTED = {
    "sigmoid": lambda u: u + mpmath.log(mpmath.exp(-u) + 1),
    "tanh": lambda u: u + mpmath.log(mpmath.exp(-2 * u) + 1),
    "softplus": lambda u: -mpmath.re(mpmath.polylog(2, -mpmath.exp(u))),
    "softsign": lambda u: abs(u) - mpmath.log(1 + abs(u)),
    "relu": lambda u: u**2 / 2 if u > 0 else mpmath.mpf(0),
    "leaky_relu": lambda u: u**2 / 2 * (1 if u > 0 else mpmath.mpf("0.01")),
    "elu": lambda u: u**2 / 2 if u > 0 else mpmath.exp(u) - u - 1,
    "swish": lambda u: (
        u**2 / 2
        + u * mpmath.log(mpmath.exp(-u) + 1)
        - mpmath.re(mpmath.polylog(2, -mpmath.exp(-u)))
    ),
}
GRID = np.concatenate([np.linspace(-50, 50, 201), [-1e-3, 1e-3, -0.3, 0.3]])


def test_table_1_is_complete():
    assert set(ACTIVATIONS) == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_potential_is_the_printed_one_in_float64(name, float64):
    with mpmath.workdps(60):
        expected = np.array([float(PRINTED[name](mpmath.mpf(u))) for u in GRID])
    potential = ACTIVATIONS[name][1](jnp.asarray(GRID))
    # softsign and ELU subtract nearly equal terms near 0: absolute there.
    np.testing.assert_allclose(potential, expected, rtol=4e-14, atol=1e-18)


@pytest.mark.parametrize("name", PRINTED)
def test_potential_is_stable_in_float32(name):
    grid = GRID.astype(np.float32)
    with mpmath.workdps(60):
        exact = [float(PRINTED[name](mpmath.mpf(float(u)))) for u in grid]
    potential = ACTIVATIONS[name][1](jnp.asarray(grid))
    np.testing.assert_allclose(potential, np.array(exact), rtol=3e-6, atol=1e-7)


@pytest.mark.parametrize("name", PRINTED)
def test_potential_differentiates_to_the_activation_everywhere(name, float64):
    phi, potential = ACTIVATIONS[name]
    u = jnp.asarray(np.concatenate([GRID, [0.0]]))
    slope = jax.vmap(jax.grad(potential))(u)
    np.testing.assert_allclose(slope, phi(u), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", PRINTED)
def test_potential_integrates_the_activation(name, float64):
    """Across 0, where the pieces of a piecewise entry have to meet."""
    phi, potential = ACTIVATIONS[name]
    for a, b in [(-3.0, 2.0), (-0.5, 0.25), (1.0, 7.0)]:
        points = [0.0] if a < 0 < b else None
        area = quad(lambda u: float(phi(u)), a, b, points=points, epsabs=1e-12)[0]
        difference = float(potential(jnp.float64(b)) - potential(jnp.float64(a)))
        assert difference == pytest.approx(area, abs=1e-10)


@pytest.mark.parametrize("name", PRINTED)
def test_gradient_is_that_of_the_objective(name, float64):
    u = objectives.square_root(_positive_definite(5, seed=0))
    z = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5)))
    f = objectives.objective(name, u)
    expected = jax.vmap(jax.grad(f))(z)
    np.testing.assert_allclose(
        objectives.gradient(name, u)(z), expected, rtol=1e-12, atol=1e-13
    )
    assert f(z).shape == (3,)
    np.testing.assert_allclose(f(z)[1], f(z[1]), rtol=1e-14)


def test_f_is_f_of_u_x(float64):
    w = _positive_definite(4, seed=2)
    x = jnp.asarray(np.random.default_rng(3).normal(size=4))
    u = objectives.square_root(w)
    np.testing.assert_allclose(u @ u, w, atol=1e-13)
    assert objectives.network_objective("elu", w)(x) == pytest.approx(
        float(objectives.objective("elu", u)(u @ x)), rel=1e-14
    )


def test_layer_multiplies_by_w_from_the_left(float64):
    rng = np.random.default_rng(4)
    w, x = rng.normal(size=(3, 3)), rng.normal(size=3)
    np.testing.assert_allclose(
        objectives.layer("tanh", jnp.asarray(w))(x), np.tanh(w @ x), rtol=1e-13
    )


def test_unknown_activation_lists_the_known():
    with pytest.raises(InputError, match=r"unknown activation 'gelu'.*sigmoid.*swish"):
        objectives.objective("gelu", np.eye(2))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_root_of_half_precision_is_single(dtype):
    w = jnp.array([[2.0, 0.5], [0.5, 1.0]], dtype)
    u = objectives.square_root(w)
    assert u.dtype == "float32"
    np.testing.assert_allclose(u @ u, w.astype("float32"), rtol=1e-6)
    assert objectives.network_objective("relu", w)(jnp.ones(2)).shape == ()


@pytest.mark.parametrize(
    ("w", "cause"),
    [
        (np.array([[1.0, 2.0], [0.0, 1.0]]), "must be symmetric"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), r"smallest eigenvalue is -1"),
        (np.array([[1.0, 1.0], [1.0, 1.0]]), "must be positive definite"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "must be symmetric"),
        (np.ones((2, 3)), r"square matrix, got shape \(2, 3\)"),
        (np.ones((0, 0)), "square matrix"),
    ],
)
def test_square_root_refuses_what_lemma_1_excludes(w, cause):
    with pytest.raises(InputError, match=cause):
        objectives.square_root(w)


def test_whole_numbers_are_taken_for_floating_point_ones():
    z, u = jnp.array([100_000, -3]), jnp.eye(2, dtype=int)
    assert objectives.objective("relu", u)(z) == pytest.approx(4.5)  # 10¹⁰ overflows
    assert objectives.gradient("relu", u)(z).tolist() == [0.0, -3.0]
    assert objectives.layer("relu", u)(z).dtype == jnp.float32
    assert objectives.network_objective("relu", np.eye(2, dtype=int))(z) == 4.5


@pytest.mark.parametrize(
    ("u", "cause"),
    [
        ([[1.0, 2.0], [0.0, 1.0]], "must be symmetric"),
        (np.full((2, 2), np.nan), "must be symmetric"),
        (np.ones((2, 3)), r"square matrix, got shape \(2, 3\)"),
        ("eye", "must be an array of numbers"),
        ([[1.0], [1.0, 2.0]], "must be an array of numbers"),
    ],
)
def test_what_is_no_symmetric_matrix_is_refused(u, cause):
    for make in (objectives.objective, objectives.gradient, objectives.gradient_step):
        with pytest.raises(InputError, match=cause):
            make("relu", u)


def test_vectors_of_another_length_are_refused():
    made = objectives.objective, objectives.gradient_step, objectives.layer
    for make in (*made, objectives.network_objective):
        with pytest.raises(InputError, match=r"must be \[..., 2\], got shape \(3,\)"):
            make("relu", np.eye(2))(np.ones(3))


def test_a_traced_matrix_is_taken():
    slope = jax.grad(lambda u: objectives.objective("relu", u)(jnp.ones(2)))
    np.testing.assert_allclose(slope(jnp.eye(2)), -np.ones((2, 2)))


def _positive_definite(n, seed):
    a = np.random.default_rng(seed).normal(size=(n, n))
    return a @ a.T / n + 0.1 * np.eye(n)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_hessian_at_0_is_that_of_the_slope_of_the_activation(name):
    with jax.enable_x64(True):
        w = jnp.asarray([[0.5, 0.1], [0.1, 0.3]])
        zero = jnp.zeros(2)
        found = jax.hessian(objectives.objective(name, w))(zero)
        above = jax.jacobian(objectives.gradient(name, w))(zero + 1e-9)
        below = jax.jacobian(objectives.gradient(name, w))(zero - 1e-9)
    sides = [np.abs(found - side).max() < 1e-6 for side in (above, below)]
    assert any(sides)
