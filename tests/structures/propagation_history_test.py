"""Propagation of a recurrence over the whole history: (18) and (21)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.recurrences import HistorySum, h_matrix, iterate
from optnet_jax.structures import (
    FullyConnected,
    Pairwise,
    Propagation,
    ReversiblePropagation,
    Stage,
)

DEPTH, FEATURES = 5, 4


class Combination(nn.Module):
    """Σ_j α_j tanh(x_j) W_j: enough of a network for the structure's arithmetic."""

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


def _close(actual, expected, rtol=1e-12):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def _run(module, variables, x0):
    return module.apply(variables, x0, trajectory=True)


@pytest.mark.parametrize("channels", [FEATURES, 7])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.7])
def test_a_number_beta_is_21_as_printed(float64, beta, channels):
    rng = np.random.default_rng(0)
    alpha = np.tril(rng.standard_normal((DEPTH, DEPTH)))
    x0 = jnp.asarray(rng.standard_normal((3, channels)))
    module = Propagation(HistorySum(alpha, beta), Combination(), DEPTH)
    variables = _float64(module.init(jax.random.key(0), x0))
    xs = _run(module, variables, x0)
    assert len(xs) == DEPTH + 1
    _close(xs, _oracle(x0, variables["params"], alpha, beta))
    np.testing.assert_array_equal(module.apply(variables, x0), xs[-1])
    paths = module.apply(variables, x0, both_paths=True)
    np.testing.assert_array_equal(paths, [xs[-1]])


@pytest.mark.parametrize("learned", [(), ("alpha",), ("alpha", "beta")])
def test_matrices_are_18_with_a_t_for_each_pair(float64, learned):
    rng = np.random.default_rng(0)
    alpha, beta = np.tril(rng.standard_normal((2, DEPTH, DEPTH)))
    x0 = jnp.asarray(rng.standard_normal((3, FEATURES)))
    module = Propagation(
        HistorySum(alpha, beta), Pairwise(FullyConnected()), DEPTH, learned=learned
    )
    variables = module.init(jax.random.key(0), x0)
    params, xs = variables["params"], [np.asarray(x0)]
    assert params.keys() == {*learned, *(f"layer_{k}" for k in range(DEPTH))}
    for k in range(DEPTH):
        weights = [
            np.asarray(params[f"layer_{k}"][f"source_{j}"]["linear"]["kernel"])
            for j in range(k + 1)
        ]
        terms = [1 / (1 + np.exp(-x @ w)) for x, w in zip(xs, weights, strict=True)]
        pairs = zip(alpha[k], terms, beta[k], xs, strict=False)
        xs.append(sum(a * t + b * x for a, t, b, x in pairs))
    _close(_run(module, variables, x0), xs, 1e-6 if learned else 1e-12)


def test_one_t_for_each_iterate_is_13_with_either_form_of_beta(float64):
    """The copies of T for one x_j are given one matrix, whatever layer they are in."""
    rng = np.random.default_rng(0)
    x0 = jnp.asarray(rng.standard_normal((3, FEATURES)))
    w = rng.standard_normal((DEPTH, FEATURES, FEATURES)) / 2
    layers = {
        f"layer_{k}": {
            f"source_{j}": {"linear": {"kernel": w[j]}} for j in range(k + 1)
        }
        for k in range(DEPTH)
    }
    h, xs = h_matrix(DEPTH), [np.asarray(x0)]
    for k in range(DEPTH):
        steps = [x - np.tanh(x @ w[j]) for j, x in enumerate(xs)]
        xs.append(xs[k] - sum(h[k, j] * step for j, step in enumerate(steps)))
    for beta in (1.0, "nesterov", np.eye(DEPTH) - h):
        method = HistorySum("nesterov", beta)
        module = Propagation(method, Pairwise(FullyConnected(jnp.tanh)), DEPTH)
        _close(_run(module, {"params": layers}, x0), xs)
        ours = iterate(
            method,
            lambda x, w: jnp.tanh(x @ w),
            x0,
            DEPTH,
            weights=jnp.asarray(w),
            trajectory=True,
        )
        _close(ours, xs)


def test_what_is_not_learned_has_no_parameter_and_what_is_starts_from_its_value():
    alpha = np.tril(np.random.default_rng(0).standard_normal((DEPTH, DEPTH)))
    x0 = jnp.ones((2, 3))
    fixed = Propagation(HistorySum(alpha, 0.1), Combination(), DEPTH)
    layers = fixed.init(jax.random.key(0), x0)["params"]
    assert sorted(layers) == [f"layer_{k}" for k in range(DEPTH)]
    learned = fixed.clone(learned=("alpha", "beta"))
    params = learned.init(jax.random.key(0), x0)["params"]
    assert params["beta"].shape == ()
    np.testing.assert_allclose(params["alpha"], alpha[np.tril_indices(DEPTH)])
    expected = _run(fixed, {"params": layers}, x0)
    given = {**params, **layers}
    _close(_run(learned, {"params": given}, x0), expected, 1e-5)

    def loss(params):
        return sum(jnp.sum(x**2) for x in _run(learned, {"params": params}, x0))

    assert all(np.all(g != 0) for g in jax.tree.leaves(jax.grad(loss)(given)))


def test_remat_changes_nothing(float64, assert_close):
    x0 = jnp.asarray(np.random.default_rng(1).standard_normal((2, 3)))
    plain = Propagation(HistorySum(beta=0.1), Combination(), DEPTH, learned=("alpha",))
    variables = _float64(plain.init(jax.random.key(0), x0))

    def gradient(module):
        def loss(variables):
            return sum(jnp.sum(x**2) for x in _run(module, variables, x0))

        return jax.grad(loss)(variables)

    assert_close(gradient(plain.clone(remat=True)), gradient(plain), 1e-12, 0)
    function = Propagation(HistorySum(), lambda xs, alpha: sum(xs), 2, remat=True)
    np.testing.assert_array_equal(function.apply({}, jnp.ones(2)), [2, 2])


def test_a_stage_runs_it_as_well():
    x0 = jnp.ones((2, FEATURES))
    stage = Stage(Propagation(HistorySum(), Combination(), DEPTH))
    variables = stage.init(jax.random.key(0), x0)
    inner = {"params": variables["params"]["propagation"]}
    expected = Propagation(HistorySum(), Combination(), DEPTH).apply(inner, x0)
    np.testing.assert_array_equal(stage.apply(variables, x0), [expected])


def test_the_history_keeps_its_dtype():
    x0 = jnp.ones((2, FEATURES), jnp.bfloat16)
    module = Propagation(
        HistorySum(beta=0.1), Pairwise(FullyConnected()), 3, learned=("beta",)
    )
    variables = module.init(jax.random.key(0), x0)
    assert {x.dtype for x in _run(module, variables, x0)} == {jnp.dtype("bfloat16")}


def _narrow(sources, alpha):
    return sources[-1][:1]


class _OneForAll(HistorySum):
    def coefficients(self, depth):
        rows = [np.full(1, 0.5) for k in range(depth)]
        return {**super().coefficients(depth), "alpha": rows}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recurrence": HistorySum(np.eye(2)), "depth": 3}, "for 2 steps"),
        (
            {"recurrence": _OneForAll(), "transform": Pairwise(FullyConnected())},
            r"_OneForAll.step combines 2 iterates with alpha of shape \(1,\): it must",
        ),
        ({"depth": 0}, "depth must be"),
        (
            {"learned": ("gamma",)},
            "'gamma' is no coefficient of HistorySum: it has alpha, beta",
        ),
        ({"tied": True}, "takes the whole history, which grows.* tied"),
        ({"separate_paths": True}, "takes the whole history, which grows"),
        ({"cls": ReversiblePropagation}, "reversible needs the heavy ball"),
        (
            {"transform": FullyConnected()},
            r"FullyConnected is no function of \(sources, alpha\).*Pairwise",
        ),
        ({"transform": _narrow}, "change the channels alone"),
        (
            {"recurrence": HistorySum(1, np.eye(2))},
            r"beta adds x_0 of shape \(2, 7\) to x_1 of shape \(2, 4\)",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(fields, message):
    usual = {"recurrence": HistorySum(), "transform": Combination(), "depth": 2}
    fields = {"cls": Propagation, **usual, **fields}
    with pytest.raises(InputError, match=message) as caught:
        fields.pop("cls")(**fields).init(jax.random.key(0), jnp.ones((2, 7)))
    assert "\n" not in str(caught.value)


def test_a_fixed_0_lets_x_0_have_other_channels():
    beta = np.array([[0, 0], [0, 0.5]])
    module = Propagation(HistorySum(1, beta), Combination(), 2)
    variables = module.init(jax.random.key(0), jnp.ones((2, 7)))
    plain = Propagation(HistorySum(), Combination(), 2)
    xs, ys = (list(_run(m, variables, jnp.ones((2, 7)))) for m in (module, plain))
    np.testing.assert_allclose(xs[2], ys[2] + ys[1] / 2, rtol=1e-6)


def test_a_traced_beta_is_taken_and_a_traced_alpha_refused_with_the_cure():
    def last(**fields):
        method = HistorySum(**fields)
        module = Propagation(method, lambda sources, alpha: sources[-1], 2)
        return module.apply({}, jnp.ones((1, 1))).sum()

    # x_1 = x_0 and x_2 = x_1 - β β_2 x_1
    slope = jax.grad(lambda beta: last(beta=beta))(0.5)
    np.testing.assert_allclose(slope, -0.281754, rtol=1e-5)
    with pytest.raises(InputError, match=r"learned=\('alpha',\)"):
        jax.jit(lambda alpha: last(alpha=alpha))(1.0)


def test_what_the_combination_does_not_take_is_said_of_it():
    network = Propagation(HistorySum(), Combination(), 2)
    with pytest.raises(
        InputError, match=r"Combination is called with sources, alpha .* mask: it takes"
    ):
        network.init(jax.random.key(0), jnp.ones((2, 3)), mask=jnp.ones(3))
