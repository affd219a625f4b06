import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.objectives import ACTIVATIONS, objective
from optnet_jax.studies.minimiser import make_problem


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_problem_has_its_minimiser_and_condition_number(activation, float64):
    problem = make_problem(activation, 30.0, dimension=6, seed=1)
    f = objective(activation, problem.u)
    z = jnp.asarray(problem.minimiser)
    assert jnp.abs(jax.grad(f)(z)).max() < 1e-12
    # f does not fall in any direction, by more than rounding.
    directions = 1e-3 * np.random.default_rng(0).normal(size=(50, 6))
    assert (f(z[None, :] + directions) >= f(z) - 1e-15).all()
    assert problem.condition == pytest.approx(30, rel=1e-5)
    if activation not in ("relu", "leaky_relu", "elu"):  # a kink in Φ or in Φ' at 0
        eigenvalues = np.linalg.eigvalsh(jax.hessian(f)(z))
        assert eigenvalues[0] == pytest.approx(problem.mu, rel=1e-4)
        assert eigenvalues[-1] == pytest.approx(problem.smoothness, rel=1e-4)


@pytest.mark.parametrize("activation", ["sigmoid", "softplus"])
def test_a_large_condition_number_is_reached(activation):
    """Where twice the W would have a saddle at the constant vector."""
    problem = make_problem(activation, 1000.0)
    assert problem.condition == pytest.approx(1000, rel=1e-5)
    assert np.ptp(problem.minimiser) == 0


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("tanh", 1.0), "condition must be above 1"),
        (("tanh", float("nan")), "condition must be above 1"),
        (("tanh", 10.0, 1), "dimension must be at least 2"),
        (("cube", 10.0), "unknown activation 'cube'"),
    ],
)
def test_bad_input(arguments, cause):
    with pytest.raises(InputError, match=cause):
        make_problem(*arguments)


def test_a_problem_is_made_in_double_precision_whatever_jax_computes_in():
    found = make_problem("sigmoid", 10.0, dimension=4)
    with jax.enable_x64(True):
        expected = make_problem("sigmoid", 10.0, dimension=4)
    assert found.u.dtype == np.float64
    np.testing.assert_array_equal(found.u, expected.u)
    np.testing.assert_array_equal(found.minimiser, expected.minimiser)
    assert (found.mu, found.smoothness) == (expected.mu, expected.smoothness)
