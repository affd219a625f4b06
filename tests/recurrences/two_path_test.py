import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.recurrences import ADMM, Coupled, TwoPath, iterate


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


def summed(alpha, beta, first):
    """Both lines of (20), with their sums over t = first..k written out."""
    x_primes, xs = [np.ones(3)], [np.ones(3)]
    for k in range(len(alpha)):
        total = sum(
            (alpha[t] * x_primes[t] + beta[t] * xs[t] for t in range(first, k + 1)),
            np.zeros(3),
        )
        x_primes.append(np.tanh(x_primes[k]) + total)
        xs.append(np.sin(xs[k]) + total)
    return xs[-1]


def test_printed_is_20_with_its_sum_from_1_on(float64):
    depth = 6
    alpha, beta = np.random.default_rng(0).normal(size=(2, depth)) / 4
    method = TwoPath.printed(depth, alpha[1:], beta[1:], readout="x")
    expected = summed(alpha, beta, first=1)
    np.testing.assert_allclose(run(method, jnp.ones(3), depth), expected, atol=1e-14)
    halves = np.full(depth, 0.5)
    ours = run(TwoPath.printed(depth, readout="x"), jnp.ones(3), depth)
    np.testing.assert_allclose(ours, summed(halves, halves, first=1), atol=1e-14)


def test_full_memory_sums_from_0_on(float64):
    depth = 6
    alpha, beta = np.random.default_rng(0).normal(size=(2, depth)) / 4
    ours = run(TwoPath(alpha, beta, memory=1, readout="x"), jnp.ones(3), depth)
    np.testing.assert_allclose(ours, summed(alpha, beta, first=0), atol=1e-14)
    assert not np.allclose(ours, summed(alpha, beta, first=1))


def test_printed_refuses_coefficients_of_another_number():
    assert TwoPath.printed(1).alpha == (0.0,)
    with pytest.raises(InputError, match=r"beta must be .* steps 1 to 3, got .*\(4,\)"):
        TwoPath.printed(4, beta=np.ones(4))


@pytest.mark.parametrize("method", [ADMM, Coupled, TwoPath])
def test_unknown_readout(method):
    with pytest.raises(InputError, match="readout='y' is unknown: use x or x_prime"):
        method(readout="y")
