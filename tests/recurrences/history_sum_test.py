import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.recurrences import HistorySum, NesterovSum, iterate


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


def test_nesterovs_coefficients_give_13(float64):
    x0 = jnp.linspace(-1, 1, 3)
    np.testing.assert_allclose(
        iterate(HistorySum.nesterov(30), jnp.sin, x0, 30, trajectory=True),
        iterate(NesterovSum(), jnp.sin, x0, 30, trajectory=True),
        atol=1e-14,
    )


@pytest.mark.parametrize(
    ("alpha", "beta", "cause"),
    [
        (np.eye(3), np.eye(2), "alpha's shape"),
        (np.ones(3), np.ones(3), r"matrix \[K, K\]"),
        (np.ones((2, 2)), np.eye(2), "lower triangular"),
    ],
)
def test_bad_matrices(alpha, beta, cause):
    with pytest.raises(InputError, match=cause):
        HistorySum(alpha, beta)


def test_depth_is_that_of_the_matrices():
    with pytest.raises(InputError, match="for 3 steps, depth is 4"):
        HistorySum.nesterov(3).coefficients(4)
