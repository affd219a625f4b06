import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.recurrences import TwoPath, iterate


def run(recurrence, x0, depth):
    return iterate(recurrence, (jnp.tanh, jnp.sin), x0, depth)


def test_default_is_dmrnet(float64):
    """§6: x' ← T(x') + x'/2 + x/2, x ← T(x) + x'/2 + x/2, both with the old x'."""
    x_prime = x = x0 = np.linspace(-1, 1, 4)
    for _ in range(5):
        half = x_prime / 2 + x / 2
        x_prime, x = np.tanh(x_prime) + half, np.sin(x) + half
    expected = {"x": x, "x_prime": x_prime, "mean": (x + x_prime) / 2}
    for readout, value in expected.items():
        ours = run(TwoPath(readout=readout), x0, 5)  # pyright: ignore
        np.testing.assert_allclose(ours, value, atol=1e-14)


def test_with_memory_is_20_as_printed(float64):
    rng = np.random.default_rng(0)
    depth = 6
    alpha, beta = rng.normal(size=(2, depth)) / 4
    alpha[0] = beta[0] = 0  # the printed sum starts at t = 1
    x_primes, xs = [np.ones(3)], [np.ones(3)]
    for k in range(depth):
        total = sum(
            (alpha[t] * x_primes[t] + beta[t] * xs[t] for t in range(1, k + 1)),
            np.zeros(3),
        )
        x_primes.append(np.tanh(x_primes[k]) + total)
        xs.append(np.sin(xs[k]) + total)
    ours = run(TwoPath(alpha, beta, memory=1, readout="x"), jnp.ones(3), depth)
    np.testing.assert_allclose(ours, xs[-1], atol=1e-14)


def test_unknown_readout():
    with pytest.raises(InputError, match="unknown readout"):
        TwoPath(readout="both")  # pyright: ignore
