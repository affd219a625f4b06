import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.recurrences import Nesterov, NesterovSum, h_matrix, iterate, momentum

DEPTH = 40


def literal_sum(transforms, x0):
    """(13) as printed: the O(K²) sum over the whole history."""
    h = h_matrix(len(transforms))
    xs, ts = [x0], []
    for k, transform in enumerate(transforms):
        ts.append(transform(xs[k]))
        terms = sum(h[k, j] * (ts[j] - xs[j]) for j in range(k + 1))
        xs.append(xs[k] + terms)
    return np.array(xs)


@pytest.fixture
def layers(float64):
    """A different W_k in each layer, and an input."""
    rng = np.random.default_rng(5)
    return rng.normal(size=(DEPTH, 6, 6)) / np.sqrt(6), rng.normal(size=(3, 6))


def run(recurrence, layers, **kwargs):
    weights, x0 = layers
    transform = lambda x, w: jnp.tanh(x @ w)  # noqa: E731
    return iterate(
        recurrence, transform, x0, DEPTH, weights=jnp.asarray(weights), **kwargs
    )


def test_is_the_literal_sum_also_with_untied_weights(layers):
    weights, x0 = layers
    expected = literal_sum([lambda x, w=w: np.tanh(x @ w) for w in weights], x0)
    ours = run(NesterovSum(), layers, trajectory=True)
    np.testing.assert_allclose(ours, expected, atol=1e-14)


def test_returns_the_extrapolation_of_nesterovs_sequence(layers):
    """(12) and (13) share z; (12) returns z_K, (13) y_K = z_K + β_K (z_K - z_{K-1})."""
    z = run(Nesterov(), layers, trajectory=True)
    beta = momentum(DEPTH + 1)[1:, None, None]
    y = z[1:] + beta * (z[1:] - z[:-1])
    ours = run(NesterovSum(), layers, trajectory=True)[1:]
    np.testing.assert_allclose(ours, y, atol=1e-14)
    assert np.abs(ours - z[1:]).max() > 0.1  # not the same output


def test_beta_can_be_given(layers):
    np.testing.assert_array_equal(
        run(NesterovSum(beta=0.0), layers), run(Nesterov(1, 0), layers)
    )
