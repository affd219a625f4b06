import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax import objectives
from optnet_jax.recurrences import ADMM, iterate


def minimiser(g, n):
    """The exact minimiser of a quadratic: one Newton step from 0."""
    zero = jnp.zeros(n)
    return -jnp.linalg.solve(jax.hessian(g)(zero), jax.grad(g)(zero))


@pytest.mark.parametrize("activation", ["sigmoid", "swish"])
def test_is_linearised_admm_6(activation, float64):
    """(6) solved as printed, argmin by argmin."""
    n, rng = 4, np.random.default_rng(0)
    a = rng.normal(size=(n, n))
    u = objectives.square_root(a @ a.T / n / 4 + 0.1 * np.eye(n))
    gradient = objectives.gradient(activation, u)
    z = y = jnp.asarray(rng.normal(size=n))
    x0, dual, outputs = z, jnp.zeros(n), []

    @jax.jit
    def step(z, y, dual):
        def z_objective(v):
            near = jnp.sum((v - z) ** 2) / 2 + jnp.sum((v - y) ** 2) / 2
            return gradient(z) @ v + dual @ v + near

        z_next = minimiser(z_objective, n)

        def y_objective(v):
            near = jnp.sum((v - y) ** 2) / 2 + jnp.sum((z_next - v) ** 2) / 2
            return gradient(y) @ v - dual @ v + near

        y_next = minimiser(y_objective, n)
        return z_next, y_next, dual + z_next - y_next

    for _ in range(8):
        z, y, dual = step(z, y, dual)
        outputs.append(y)
    operator = objectives.gradient_step(activation, u)
    ours = iterate(ADMM(), operator, x0, 8, trajectory=True)[1:]
    np.testing.assert_allclose(ours, outputs, atol=1e-13)


def test_is_14_with_its_sum_as_printed(float64):
    x_prime = x = x0 = np.linspace(-1, 2, 3)
    history = []  # x'_t - x_t, t = 1..k
    for _ in range(6):
        total = sum(history, np.zeros(3))
        x_prime = (np.tanh(x_prime) + x - total) / 2
        x = (np.tanh(x) + x_prime + total) / 2
        history.append(x_prime - x)
    for readout, expected in [
        ("x", x),
        ("x_prime", x_prime),
        ("mean", (x + x_prime) / 2),
    ]:
        ours = iterate(ADMM(readout), jnp.tanh, x0, 6)
        np.testing.assert_allclose(ours, expected, atol=1e-14)


def test_each_path_can_have_an_operator_of_its_own():
    x = iterate(ADMM(), (lambda x: 2 * x, lambda x: 4 * x), jnp.ones(1), 1)
    # x' = (2 + 1) / 2, x = (4 + x') / 2
    np.testing.assert_allclose(x, [2.75])
