import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.recurrences import HistorySum, NesterovSum, h_matrix, iterate
from optnet_jax.recurrences.base import packed
from optnet_jax.recurrences.history_sum import alpha_matrix


def test_is_equation_18_with_any_coefficients(float64):
    rng = np.random.default_rng(1)
    alpha, beta = np.tril(rng.normal(size=(2, 5, 5))) / 3
    x0 = rng.normal(size=4)
    xs = [x0]
    for k in range(5):
        xs.append(
            sum(alpha[k, j] * np.tanh(xs[j]) + beta[k, j] * xs[j] for j in range(k + 1))
        )
    ours = iterate(HistorySum(alpha, beta), jnp.tanh, x0, 5, trajectory=True)
    np.testing.assert_allclose(ours, xs, atol=1e-14)


def test_coefficients_given_to_iterate_replace_those_of_the_method(float64):
    h, x0 = h_matrix(4), jnp.linspace(-1, 1, 3)

    def last(alpha):
        given = {"alpha": alpha, "beta": np.eye(4) - h}
        return iterate(HistorySum(), jnp.sin, x0, 4, coefficients=given)

    expected = iterate(NesterovSum(), jnp.sin, x0, 4)
    np.testing.assert_allclose(jax.jit(last)(h), expected, atol=1e-14)
    with pytest.raises(InputError, match=r"coefficients\['alpha'\] is for 3 steps"):
        last(h[:3])


@pytest.mark.parametrize(
    "value", [np.ones(3), np.ones((2, 2)), np.ones((2, 3)), np.zeros((0, 0))]
)
@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_bad_matrices(name, value):
    with pytest.raises(InputError, match=f"^{name} must be a number, a lower tri"):
        HistorySum(**{name: value})


def test_depth_is_that_of_the_matrices():
    with pytest.raises(InputError, match="beta is for 3 steps, depth is 4"):
        HistorySum(1, np.eye(3)).coefficients(4)


def test_other_names_than_nesterov_are_refused():
    with pytest.raises(InputError, match="alpha must be a number"):
        HistorySum("polyak")


def test_rows_and_matrix_are_inverse():
    matrix = np.tril(np.random.default_rng(0).standard_normal((4, 4)))
    rows = HistorySum(matrix).coefficients(4)["alpha"]
    np.testing.assert_array_equal(alpha_matrix(packed(rows)), matrix)
    with pytest.raises(InputError, match="K \\(K\\+1\\) / 2"):
        alpha_matrix(np.ones(5))
