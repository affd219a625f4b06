import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.recurrences import (
    ADMM,
    GradientDescent,
    HeavyBall,
    HistorySum,
    Nesterov,
    NesterovSum,
    heavy_ball,
)
from optnet_jax.studies import roots


def test_hb_net_neither_amplifies_nor_forgets():
    """β = 1: e^{±iπ/3}, a modulus of 1 and a period of six layers."""
    found = roots.characteristic_roots(HeavyBall(1, -1))
    assert found.radius == pytest.approx(1)
    assert found.angle == pytest.approx(60)
    assert found.period == pytest.approx(6)
    power = np.linalg.matrix_power(roots.step_matrix(HeavyBall(1, -1)), 6)
    np.testing.assert_allclose(power, np.eye(2), atol=1e-12)


@pytest.mark.parametrize(("beta1", "beta2"), [(0.3, -0.3), (1.0, 0.0), (0.2, 0.9)])
@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.7])
def test_the_roots_of_16_are_those_of_its_polynomial(beta1, beta2, slope):
    found = roots.characteristic_roots(HeavyBall(beta1, beta2), slope)
    expected = np.roots([1, -(slope + beta1), -beta2])
    np.testing.assert_allclose(
        np.sort_complex(found.values), np.sort_complex(expected), atol=1e-7
    )


def test_the_tuned_heavy_ball_contracts_by_its_theoretical_rate():
    """β = (1 - √μ)² has modulus √β for every λ in [0, 1 - μ]."""
    mu = 0.01
    method = heavy_ball((1 - mu**0.5) ** 2)
    radii = roots.radius_over_slopes(method, np.linspace(0, 1 - mu, 7))
    np.testing.assert_allclose(radii, 1 - mu**0.5, atol=1e-7)


def test_gradient_descent_has_the_slope_itself():
    assert roots.characteristic_roots(GradientDescent(), 0.4).radius == (
        pytest.approx(0.4)
    )
    assert roots.characteristic_roots(GradientDescent(), 0.4).period == np.inf


def test_both_forms_of_nesterov_have_the_same_leading_root():
    one = roots.characteristic_roots(Nesterov(), 0.9, depth=42)
    # (13) extrapolates after T, with the coefficient of the next step.
    other = roots.characteristic_roots(NesterovSum(), 0.9, depth=41)
    assert one.radius == pytest.approx(other.radius)


def test_admm_forgets_by_itself_and_keeps_a_fixed_point():
    assert roots.characteristic_roots(ADMM()).radius == pytest.approx(0.5)
    assert roots.characteristic_roots(ADMM(), 1.0).radius == pytest.approx(1)


class Doubling:
    def coefficients(self, depth):
        return {"factor": np.full(depth, 2.0)}

    def init(self, x0):
        return {"x": x0}

    def step(self, transform, state, c):
        return {"x": c["factor"] * state["x"] + transform(state["x"])}

    def output(self, state):
        return state["x"]


def test_a_recurrence_of_a_user_needs_no_more_than_its_four_methods():
    assert roots.characteristic_roots(Doubling(), 0.25).radius == pytest.approx(2.25)


def test_coefficients_are_whatever_iterate_takes():
    class Listed(Doubling):
        def coefficients(self, depth):
            return {"factor": [1] * (depth - 1) + [2]}

    assert roots.characteristic_roots(Listed(), 0.25).radius == pytest.approx(2.25)

    class Short(Doubling):
        def coefficients(self, depth):
            return {"factor": [2.0] * (depth - 1)}

    with pytest.raises(InputError, match="leading axis must be the depth, 5"):
        roots.characteristic_roots(Short(), depth=5)


def test_a_state_that_grows_is_refused():
    with pytest.raises(InputError, match="takes the whole history, which grows"):
        roots.characteristic_roots(HistorySum())


def test_a_step_that_is_not_linear_is_refused():
    with pytest.raises(InputError, match="not linear in its state"):
        roots.characteristic_roots(HeavyBall(1, 0, post_activation=jnp.abs))


def test_the_period_of_a_sign_change_is_two():
    found = roots.characteristic_roots(GradientDescent(), -0.5)
    assert (found.angle, found.period) == (pytest.approx(180), pytest.approx(2))


def test_a_root_of_0_has_no_angle():
    found = roots.characteristic_roots(Nesterov())
    assert (found.radius, found.angle, found.period) == (0, 0, np.inf)
