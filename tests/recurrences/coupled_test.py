import jax.numpy as jnp
import numpy as np

from optnet_jax.recurrences import Coupled, iterate


def test_is_the_authors_pair_of_sums(float64):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 4, 4)) / 2
    start = tuple(rng.normal(size=(2, 4)))
    xs = [
        iterate(
            Coupled(readout),
            (lambda x: jnp.tanh(first @ x), lambda x: jnp.tanh(second @ x)),
            start,
            5,
        )
        for readout in ("x_prime", "x", "mean")
    ]
    a, b = start
    for _ in range(5):
        a = a + np.tanh(first @ b)
        b = b + np.tanh(second @ a)
    np.testing.assert_allclose(xs, [a, b, (a + b) / 2], atol=1e-13)
