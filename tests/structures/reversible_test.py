import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.ops.normalization import BatchNorm
from optnet_jax.recurrences import HeavyBall, Nesterov
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


def _inputs(dtype=jnp.float64):
    keys = jax.random.split(jax.random.key(1), 2)
    return tuple(jax.random.normal(key, X, dtype) for key in keys)


def _gradients(cls, recurrence, variables, train=True, learned=(), dtype=jnp.float64):
    network = cls(recurrence, Unit(train), DEPTH, learned=learned)
    mutable = ["batch_stats"] if train else []

    def loss(params, inputs):
        y, updated = network.apply(
            {**variables, "params": params}, *inputs, mutable=mutable
        )
        return (y**2 * jnp.arange(1, 5)[None]).sum(), (y, updated)

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(
        variables["params"], _inputs(dtype)
    )


def _variables(recurrence, learned=(), cls=Propagation, dtype=jnp.float64):
    network = cls(recurrence, Unit(), DEPTH, learned=learned)
    variables = network.init(jax.random.key(0), *_inputs(dtype))
    return jax.tree.map(lambda a: a.astype(dtype), variables)


def _largest_difference(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    differences = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), a, b)
    return max(jax.tree.leaves(differences))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("recurrence", "learned"),
    [
        (HeavyBall(1, -1), ()),
        (HeavyBall(0.7, np.linspace(-1, -0.5, DEPTH)), ("beta1", "beta2")),
        (HeavyBall(1.9, -0.9, scale=np.linspace(0.1, 1, DEPTH)), ("beta2", "scale")),
    ],
)
def test_gradients_statistics_and_values_are_backpropagations(
    float64, recurrence, learned, train
):
    variables = _variables(recurrence, learned)
    expected = _gradients(Propagation, recurrence, variables, train, learned)
    found = _gradients(ReversiblePropagation, recurrence, variables, train, learned)
    assert _largest_difference(found, expected) < 1e-10
    if learned:
        assert jnp.abs(found[0][0]["beta2"]).min() > 0


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
        (HeavyBall(1, 0), {}, "beta2 != 0 in every step"),
        (HeavyBall(1, (-1, 0, -1, -1, -1, -1)), {}, "beta2 != 0 in every step"),
        (HeavyBall(1, -1, jax.nn.relu), {}, "post_activation=None"),
        (HeavyBall(1, -1), {"tied": True}, "excludes tied"),
        (HeavyBall(1, -1), {"unroll": True}, "excludes tied, unroll"),
        (HeavyBall(1, -1), {"remat": True}, "excludes tied, unroll, remat"),
    ],
)
def test_what_cannot_be_reversed_is_refused(recurrence, fields, message):
    network = ReversiblePropagation(recurrence, jnp.sin, DEPTH, **fields)
    with pytest.raises(InputError, match=message):
        network.apply({}, jnp.ones(X))
