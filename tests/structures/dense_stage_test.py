import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.recurrences import h_matrix
from optnet_jax.structures.dense_stage import DenseStage, alpha_matrix, alpha_rows

DEPTH, FEATURES = 5, 4


class Combination(nn.Module):
    """Σ_j α_j tanh(z_j) W_j: enough of a network for the structure's arithmetic."""

    @nn.compact
    def __call__(self, sources, alpha=None):
        total = 0.0
        for j, z in enumerate(sources):
            w = self.param(
                f"w_{j}", nn.initializers.normal(0.5), (z.shape[-1], FEATURES)
            )
            term = jnp.tanh(z) @ w
            total = total + (term if alpha is None else alpha[j] * term)
        return total


def _oracle(z0, layers, alpha, beta):
    """(21) as printed, with the matrix h of (5)."""
    h, z = h_matrix(DEPTH), [np.asarray(z0)]
    for k in range(DEPTH):
        layer = layers[f"layer_{k}"]
        z_next = sum(
            alpha[k][j] * np.tanh(z[j]) @ np.asarray(layer[f"w_{j}"])
            for j in range(k + 1)
        )
        if k:  # at k = 0 the term is z_0 - z_0, whatever z_0's channels
            term = z[k] - sum(h[k, j] * z[j] for j in range(1, k + 1))
            z_next = z_next + beta * term
        z.append(z_next)
    return z


def _float64(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float64), tree)


@pytest.mark.parametrize("channels", [FEATURES, 7])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.7])
def test_stage_equals_the_printed_sum(float64, beta, channels):
    rng = np.random.default_rng(0)
    alpha = np.tril(rng.standard_normal((DEPTH, DEPTH)))
    z0 = jnp.asarray(rng.standard_normal((3, channels)))
    stage = DenseStage(Combination(), DEPTH, alpha=alpha, beta=beta)
    variables = _float64(stage.init(jax.random.key(0), z0))
    z = stage.apply(variables, z0)
    expected = _oracle(z0, variables["params"], alpha, beta)
    assert len(z) == DEPTH + 1
    for actual, wanted in zip(z, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-12, atol=1e-13)


def test_beta_matters():
    z0 = jnp.ones((2, FEATURES))
    plain = DenseStage(Combination(), DEPTH)
    variables = plain.init(jax.random.key(0), z0)
    other = DenseStage(Combination(), DEPTH, beta=0.1).apply(variables, z0)
    difference = [
        float(jnp.abs(a - b).max())
        for a, b in zip(plain.apply(variables, z0), other, strict=True)
    ]
    assert difference[:2] == [0, 0]
    assert min(difference[2:]) > 1e-3


def test_dense_net_has_the_parameters_of_its_transforms_only():
    stage = DenseStage(Combination(), DEPTH)
    params = stage.init(jax.random.key(0), jnp.ones((2, 3)))["params"]
    assert sorted(params) == [f"layer_{k}" for k in range(DEPTH)]


def test_learned_coefficients_start_at_their_values_and_get_gradients():
    alpha = np.tril(np.arange(1.0, DEPTH**2 + 1).reshape(DEPTH, DEPTH)) / 10
    z0 = jnp.ones((2, FEATURES))
    fixed = DenseStage(Combination(), DEPTH, alpha=alpha, beta=0.1)
    learned = DenseStage(
        Combination(), DEPTH, alpha=alpha, beta=0.1, learned=("alpha", "beta")
    )
    params = learned.init(jax.random.key(0), z0)["params"]
    np.testing.assert_allclose(alpha_matrix(params["alpha"]), alpha, rtol=1e-6)
    assert params["beta"].shape == ()
    layers = {k: v for k, v in params.items() if k.startswith("layer")}
    for a, b in zip(
        learned.apply({"params": params}, z0),
        fixed.apply({"params": layers}, z0),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    def loss(params):
        return sum(jnp.sum(z**2) for z in learned.apply({"params": params}, z0))

    gradients = jax.grad(loss)(params)
    assert all(np.all(g != 0) for g in jax.tree.leaves(gradients))


def test_remat_changes_nothing(float64):
    z0 = jnp.asarray(np.random.default_rng(1).standard_normal((2, 3)))
    stages = [
        DenseStage(Combination(), DEPTH, beta=0.1, learned=("alpha",), remat=remat)
        for remat in (False, True)
    ]
    variables = _float64(stages[0].init(jax.random.key(0), z0))

    def gradient(stage):
        def loss(variables):
            return sum(jnp.sum(z**2) for z in stage.apply(variables, z0))

        return jax.grad(loss)(variables)

    plain, rematerialised = map(gradient, stages)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), plain, rematerialised
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": np.ones((2, 2))}, r"lower triangular, \[5, 5\]"),
        ({"alpha": np.ones((DEPTH, DEPTH))}, "lower triangular"),
        ({"learned": ("gamma",)}, "'gamma' is no coefficient"),
        ({"depth": 0}, "depth must be"),
    ],
)
def test_bad_coefficients(fields, message):
    stage = DenseStage(Combination(), **{"depth": DEPTH, **fields})
    with pytest.raises(InputError, match=message):
        stage.init(jax.random.key(0), jnp.ones((1, 3)))


def test_alpha_rows_and_matrix_are_inverse():
    matrix = np.tril(np.random.default_rng(0).standard_normal((4, 4)))
    np.testing.assert_array_equal(
        alpha_matrix(np.concatenate(alpha_rows(matrix, 4))), matrix
    )
    with pytest.raises(InputError, match="K \\(K\\+1\\) / 2"):
        alpha_matrix(np.ones(5))


def test_a_traced_beta_is_taken_and_a_traced_alpha_refused_with_the_cure():
    def last(**fields):
        stage = DenseStage(lambda sources, alpha: sources[-1], 2, **fields)
        return stage.apply({}, jnp.ones((1, 1)))[-1].sum()

    # z_1 = z_0 and z_2 = z_1 - β β_2 z_1
    slope = jax.grad(lambda beta: last(beta=beta))(0.5)
    np.testing.assert_allclose(slope, -0.281754, rtol=1e-5)
    with pytest.raises(InputError, match=r'learned=\("alpha",\)'):
        jax.jit(lambda alpha: last(alpha=alpha))(1.0)
    with pytest.raises(InputError, match=r"beta must be a number, got shape \(2,\)"):
        last(beta=np.ones(2))
