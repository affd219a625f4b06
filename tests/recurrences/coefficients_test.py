import numpy as np
import pytest

from optnet_jax import recurrences
from optnet_jax.errors import InputError


def test_theta_solves_its_equation():
    theta = recurrences.theta(200)
    assert theta[0] == 1
    residual = (1 - theta[1:]) / theta[1:] ** 2 * theta[:-1] ** 2 - 1
    assert np.abs(residual).max() < 1e-12
    assert np.all(np.diff(theta) < 0)


def test_momentum_has_the_known_values():
    beta = recurrences.momentum(41)
    assert beta[0] == beta[1] == 0
    np.testing.assert_allclose(
        beta[[2, 3, 10, 40]], [0.281754, 0.434043, 0.7647, 0.9308], atol=5e-5
    )


def test_h_is_equation_5_as_printed():
    """(5) read literally, entry by entry."""
    n = 12
    theta = recurrences.theta(n + 1)
    h = np.zeros((n + 1, n))
    h[1, 0] = 1  # 1 + θ_1 (1 - θ_0) / θ_0
    for k in range(1, n):
        beta = theta[k + 1] * (1 - theta[k]) / theta[k]
        for j in range(k + 1):
            if j <= k - 2:
                h[k + 1, j] = beta * h[k, j]
            elif j == k - 1:
                h[k + 1, j] = beta * (h[k, k - 1] - 1)
            else:
                h[k + 1, j] = 1 + beta
    np.testing.assert_allclose(recurrences.h_matrix(n), h[1:], rtol=1e-15)
    assert not recurrences.h_matrix(n)[1:, 0].any()


@pytest.mark.parametrize("f", ["theta", "momentum", "h_matrix"])
def test_sizes_and_bad_input(f):
    function = getattr(recurrences, f)
    assert function(1).shape == ((1, 1) if f == "h_matrix" else (1,))
    with pytest.raises(InputError, match="at least 1"):
        function(0)
