import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.ops.normalization import BatchNorm
from optnet_jax.recurrences import Coupled, HeavyBall, Nesterov
from optnet_jax.structures import Propagation, ReversiblePropagation

X = (8, 4)
DEPTH = 6


class Unit(nn.Module):
    """Dense-BN-tanh: something with parameters and running statistics."""

    train: bool = True

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(x.shape[-1], param_dtype=x.dtype, name="dense")(x)
        return jnp.tanh(BatchNorm(not self.train, name="norm")(x))


@dataclasses.dataclass(frozen=True)
class Drifting:
    """A user's own: the step before is kept and doubled back; one state of two."""

    def coefficients(self, depth):
        return {"rate": np.linspace(0.5, 1, depth)}

    def init(self, x0):
        return {"x": x0, "v": x0}

    def step(self, transform, state, c):
        v = state["v"] + c["rate"] * transform(state["x"])
        return {"x": state["x"] + v, "v": v}

    def undo(self, transform, state, c):
        x = state["x"] - state["v"]
        return {"x": x, "v": state["v"] - c["rate"] * transform(x)}

    def output(self, state):
        return state["x"]


def _inputs(dtype=jnp.float64):
    keys = jax.random.split(jax.random.key(1), 2)
    return tuple(jax.random.normal(key, X, dtype) for key in keys)


def _gradients(
    cls, recurrence, variables, train=True, learned=(), dtype=jnp.float64, **fields
):
    network = cls(recurrence, Unit(train), DEPTH, learned=learned, **fields)
    mutable = ["batch_stats"] if train else []

    def loss(params, inputs):
        start = (inputs,) if isinstance(recurrence, Coupled) else inputs
        y, updated = network.apply(
            {**variables, "params": params}, *start, mutable=mutable
        )
        return (y**2 * jnp.arange(1, 5)[None]).sum(), (y, updated)

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(
        variables["params"], _inputs(dtype)
    )


def _variables(recurrence, learned=(), cls=Propagation, dtype=jnp.float64, **fields):
    network = cls(recurrence, Unit(), DEPTH, learned=learned, **fields)
    start = _inputs(dtype)
    start = (start,) if isinstance(recurrence, Coupled) else start
    variables = network.init(jax.random.key(0), *start)
    return jax.tree.map(lambda a: a.astype(dtype), variables)


def _largest_difference(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    differences = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), a, b)
    return max(jax.tree.leaves(differences))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("recurrence", "fields"),
    [
        (HeavyBall(1, -1), {}),
        (HeavyBall(0.7, np.linspace(-1, -0.5, DEPTH)), {"learned": ("beta1", "beta2")}),
        (
            HeavyBall(1.9, -0.9, scale=np.linspace(0.1, 1, DEPTH)),
            {"learned": ("beta2", "scale")},
        ),
        (Drifting(), {"learned": ("rate",)}),
        (Coupled(), {}),
        (Coupled(), {"separate_paths": True}),
    ],
)
def test_gradients_statistics_and_values_are_backpropagations(
    float64, recurrence, fields, train
):
    variables = _variables(recurrence, **fields)
    expected, found = (
        _gradients(cls, recurrence, variables, train, **fields)
        for cls in (Propagation, ReversiblePropagation)
    )
    assert _largest_difference(found, expected) < 1e-10
    for name in fields.get("learned", ()):
        assert jnp.abs(found[0][0][name]).min() > 0


def _compiled(cls, recurrence, depth):
    network = cls(recurrence, jnp.sin, depth)
    gradient = jax.jit(jax.grad(lambda x: network.apply({}, x).sum()))
    return gradient.lower(jnp.ones((64, 64))).compile().memory_analysis()


@pytest.mark.parametrize("recurrence", [HeavyBall(1, -1), Coupled()])
def test_its_memory_does_not_grow_with_depth(recurrence):
    few, many, stored = (
        _compiled(cls, recurrence, depth).temp_size_in_bytes
        for cls, depth in (
            (ReversiblePropagation, 8),
            (ReversiblePropagation, 80),
            (Propagation, 80),
        )
    )
    iterate = 64 * 64 * 4
    assert many - few < iterate
    assert stored - many > 70 * iterate


@pytest.mark.parametrize("shape", [(2, 3), (0, 3)])
@pytest.mark.parametrize("method", [HeavyBall(1, -1), Coupled()])
def test_zeros_and_no_examples_are_not_taken_for_inaccurate(method, shape, caplog):
    network = ReversiblePropagation(method, jnp.cos, 3)
    stored = Propagation(method, jnp.cos, 3)
    found, expected = (
        jax.grad(lambda x, n=n: n.apply({}, x).sum())(jnp.zeros(shape))
        for n in (network, stored)
    )
    jax.effects_barrier()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not caplog.messages


def test_a_revnet_that_cannot_be_undone_is_named(caplog):
    """sin(1e8 x) makes another number of every rounding."""
    network = ReversiblePropagation(Coupled(), lambda x: jnp.sin(1e8 * x), 20)
    gradient = jax.grad(lambda x: network.apply({}, x).sum())(jnp.linspace(1, 2, 9))
    jax.effects_barrier()
    assert np.isnan(gradient).all()
    assert "amplify rounding errors" in caplog.text


def test_variables_are_those_of_the_scanned_propagation():
    recurrence = HeavyBall(1, -1)
    expected = _variables(recurrence, ("beta2",), dtype=jnp.float32)
    found = _variables(recurrence, ("beta2",), ReversiblePropagation, jnp.float32)
    assert _largest_difference(found, expected) == 0


def test_float32_gradients_are_close():
    recurrence = HeavyBall(1, -1)
    variables = _variables(recurrence, dtype=jnp.float32)
    (expected, _), (found, _) = (
        _gradients(cls, recurrence, variables, dtype=jnp.float32)
        for cls in (Propagation, ReversiblePropagation)
    )
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    assert _largest_difference(found, expected) < 1e-4 * largest


def test_a_transform_without_parameters(float64):
    def value(cls, x):
        return cls(HeavyBall(1, -1), jnp.sin, DEPTH).apply({}, x).sum()

    x = _inputs()[0]
    np.testing.assert_allclose(
        jax.grad(value, 1)(ReversiblePropagation, x),
        jax.grad(value, 1)(Propagation, x),
        atol=1e-10,
    )


def test_bfloat16_inputs_are_carried_in_float32():
    network = ReversiblePropagation(HeavyBall(1, -1), jnp.sin, DEPTH)
    assert network.apply({}, jnp.ones(X, jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("beta2", [0.0, 1e-9])
def test_a_learned_beta2_that_reaches_zero_is_named(caplog, beta2):
    recurrence = HeavyBall(1, -1)
    variables = _variables(recurrence, ("beta2",), dtype=jnp.float32)
    variables["params"]["beta2"] = variables["params"]["beta2"].at[2].set(beta2)
    (_, (inputs, _)), _ = _gradients(
        ReversiblePropagation,
        recurrence,
        variables,
        learned=("beta2",),
        dtype=jnp.float32,
    )
    jax.effects_barrier()
    assert np.isnan(inputs).all()
    assert f"smallest |beta2| is {beta2:.2g}" in caplog.text


@pytest.mark.parametrize(
    ("recurrence", "fields", "message"),
    [
        (Nesterov(), {}, "Nesterov has no such form"),
        (Coupled(), {"tied": True}, "excludes tied"),
        (HeavyBall(1, 0), {}, "beta2 != 0 in every step"),
        (HeavyBall(1, (-1, 0, -1, -1, -1, -1)), {}, "beta2 != 0 in every step"),
        (HeavyBall(1, -1, jax.nn.relu), {}, "post_activation=None"),
        (HeavyBall(1, -1), {"tied": True}, "excludes tied"),
        (
            HeavyBall(1, -1),
            {"transform": (jnp.tanh, jnp.sin)},
            "excludes transforms in turn",
        ),
        (HeavyBall(1, -1), {"unroll": True}, "excludes tied, unroll"),
        (HeavyBall(1, -1), {"remat": True}, "excludes tied, unroll, remat"),
    ],
)
def test_what_cannot_be_reversed_is_refused(recurrence, fields, message):
    fields = {"transform": jnp.sin, "depth": DEPTH, **fields}
    with pytest.raises(InputError, match=message):
        ReversiblePropagation(recurrence, **fields)


@pytest.mark.parametrize(
    ("undo", "message"),
    [
        (
            lambda transform, state, c: {"x": c["rte"], "v": state["v"]},
            "undo looks up 'rte', and .*.coefficients returns a dict of rate",
        ),
        (lambda transform, state, c: {"x": state["x"]}, "undo returns a state of an"),
        (
            lambda transform, state, c: state,
            "undo must evaluate each of its 1 T once, and .* 0",
        ),
    ],
)
def test_what_is_wrong_with_an_undo_is_one_line(undo, message):
    method = type("Own", (Drifting,), {"undo": staticmethod(undo)})()
    network = ReversiblePropagation(method, jnp.sin, DEPTH)
    with pytest.raises(InputError, match=message):
        jax.grad(lambda x: network.apply({}, x).sum())(jnp.ones(X))


def test_what_a_transform_sows_is_not_lost_without_a_word():
    class Sowing(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.sow("intermediates", "size", jnp.linalg.norm(x))
            return Unit()(x)

    x = jnp.ones((2, 4))
    network = ReversiblePropagation(HeavyBall(1, -1), Sowing(), depth=3)
    variables = network.init(jax.random.key(0), x)
    with pytest.raises(InputError, match="Sowing sows into intermediates, and revers"):
        network.apply(variables, x, mutable=["intermediates", "batch_stats"])
    network.apply(variables, x, mutable=["batch_stats"])


def test_what_a_transform_writes_has_no_gradient_without_a_word():
    class Penalised(nn.Module):
        @nn.compact
        def __call__(self, x):
            penalty = self.variable("losses", "penalty", jnp.zeros, ())
            if self.is_mutable_collection("losses"):
                penalty.value = (x**2).sum()
            return Unit()(x)

    x = jnp.ones((2, 4))
    network = ReversiblePropagation(HeavyBall(1, -1), Penalised(), depth=3)
    variables = network.init(jax.random.key(0), x)

    def loss(x, mutable):
        y, written = network.apply(variables, x, mutable=mutable)
        return y.sum() + sum(map(jnp.sum, jax.tree.leaves(written.get("losses"))))

    assert loss(x, ["losses", "batch_stats"]) > 1
    with pytest.raises(InputError, match="T writes to losses, of which reversible has"):
        jax.grad(loss)(x, ["losses", "batch_stats"])
    jax.grad(loss)(x, ["batch_stats"])


@pytest.mark.parametrize("recurrence", [HeavyBall(1, -1), Coupled()])
def test_what_a_transform_closes_over_has_a_gradient(float64, recurrence):
    x, w = _inputs()
    w = w.T @ w / 8

    def value(w, cls):
        def transform(x, b, key):
            return jnp.tanh(x @ w + b) + jax.random.normal(key, X)

        network = cls(recurrence, transform, 3)
        return network.apply({}, x, b=w[:1], key=jax.random.key(0)).sum()

    expected = jax.grad(value)(w, Propagation)
    assert np.abs(expected).min() > 0
    for wrap in (
        lambda f: jax.grad(f),
        lambda f: jax.jit(jax.grad(f)),
        lambda f: jax.grad(jax.jit(f)),
    ):
        found = wrap(lambda w: value(w, ReversiblePropagation))(w)
        np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("make", [lambda unit: unit.__call__, functools.partial])
def test_a_method_or_a_partial_of_a_module_is_a_transform(float64, make):
    found, (x, _) = [], _inputs()
    for cls in (Propagation, ReversiblePropagation):
        network = cls(HeavyBall(1, -1), make(Unit(train=False)), DEPTH)
        variables = network.init(jax.random.key(0), x)
        found.append(network.apply(variables, x))
    np.testing.assert_allclose(*found, atol=1e-12)


class Counting(HeavyBall):
    """HB-Net whose T is scaled by a table that the number of the step indexes."""

    table = jnp.linspace(0.1, 1, DEPTH)

    def init(self, x0):
        return self.restart(x0, x0)

    def restart(self, x0, previous):
        return x0, previous, jnp.zeros((), int)

    def step(self, transform, state, c):
        *state, k = state
        return *super().step(lambda x: self.table[k] * transform(x), state, c), k + 1

    def undo(self, transform, state, c):
        *state, k = state
        scaled = lambda x: self.table[k - 1] * transform(x)  # noqa: E731
        return *super().undo(scaled, state, c), k - 1


def test_whole_numbers_of_a_state_stay_so(float64):
    method = Counting(0.9, -0.9)
    variables = _variables(method)
    expected, found = (
        _gradients(cls, method, variables)
        for cls in (Propagation, ReversiblePropagation)
    )
    assert _largest_difference(found, expected) < 1e-10
