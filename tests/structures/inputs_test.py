"""What a transform takes beside x reaches it in every form of every structure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.networks.recurrence_net import RecurrenceNet
from optnet_jax.recurrences import ADMM, HeavyBall, HistorySum, heavy_ball
from optnet_jax.structures import (
    Equilibrium,
    Pairwise,
    Propagation,
    ReversiblePropagation,
    Stage,
    unroll_layers,
)

DEPTH = 3
METHOD = HeavyBall(1.0, -1.0)
X = jax.random.normal(jax.random.key(0), (2, 4))
B = jax.random.normal(jax.random.key(1), (2, 4))
MASK = jnp.array([True, False, True, True])
FORMS = {
    "scanned": (Propagation, {}),
    "rematerialised": (Propagation, {"remat": True}),
    "unrolled": (Propagation, {"unroll": True, "remat": True}),
    "reversible": (ReversiblePropagation, {}),
}


class Unit(nn.Module):
    """tanh(W x + b) where the mask is, and nothing unless the flag says so."""

    @nn.compact
    def __call__(self, x, b, masks, flag):
        assert flag is True  # no tracer: a network chooses by it what it computes
        y = jnp.tanh(nn.Dense(x.shape[-1], use_bias=False, name="dense")(x) + b["b"])
        return jnp.where(masks[0], y, 0 * y)


@pytest.mark.parametrize("form", FORMS)
def test_values_and_gradients_are_those_of_a_loop(assert_close, form):
    cls, options = FORMS[form]
    module = cls(METHOD, Unit(), DEPTH, **options)
    kernels = 0.5 * jax.random.normal(jax.random.key(2), (DEPTH, 4, 4))
    named = {"masks": [MASK[None]], "flag": True}

    def ours(kernels, b):
        params = {"layers": {"transform": {"dense": {"kernel": kernels}}}}
        if options.get("unroll"):
            params = unroll_layers(params)
        return module.apply({"params": params}, X, b={"b": b}, **named)

    def loop(kernels, b):
        x = previous = X
        for kernel in kernels:
            t = jnp.where(MASK[None], jnp.tanh(x @ kernel + b), 0.0)
            x, previous = t + x - previous, x
        return x

    def value_and_slopes(f):
        loss = jax.jit(
            jax.value_and_grad(lambda *a: (f(*a) ** 2).sum(), argnums=(0, 1))
        )
        return loss(kernels, B)

    assert_close(value_and_slopes(ours), value_and_slopes(loop), 1e-4, 1e-5)


def noise(x, key, b=0.0):
    return jax.random.normal(key, x.shape) + b


@pytest.mark.parametrize("form", [*FORMS, "tied"])
def test_each_layer_has_a_key_of_its_own(form):
    cls, options = FORMS.get(form, (Propagation, {"tied": True}))
    module = cls(METHOD, noise, DEPTH, **options)
    key = jax.random.key(3)
    x = module.apply({}, X, trajectory=True, key=key)
    drawn = [noise(X, k) for k in jax.random.split(key, DEPTH)]
    expected = [X, X]
    for t in drawn:
        expected.append(t + expected[-1] - expected[-2])
    np.testing.assert_allclose(x, jnp.stack(expected[1:]), atol=1e-5)
    if form == "reversible":  # the others run one program for both
        np.testing.assert_allclose(module.apply({}, X, key=key), x[-1], atol=1e-5)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_key_that_looks_like_data_is_refused(impl):
    """As data it would be the same in all layers; one that is wrapped is a key."""
    key, kinds = jax.random.PRNGKey(3, impl=impl), []

    def transform(x, keys):
        kinds.append(keys["noise"].dtype)
        return x

    for module, x in (
        (Propagation(METHOD, transform, DEPTH), X),
        (ReversiblePropagation(METHOD, transform, DEPTH), X),
        (Pairwise(transform), (X, X)),
    ):
        with pytest.raises(
            InputError, match=r"inputs\['keys'\]\['noise'\] is a uint32"
        ):
            jax.jit(lambda key, m=module, x=x: m.apply({}, x, keys={"noise": key}))(key)
        assert not kinds
        wrapped = jax.random.wrap_key_data(key, impl=impl)
        module.apply({}, x, keys={"noise": wrapped})
        assert set(kinds) == {wrapped.dtype}
        kinds.clear()


class Dropped(nn.Module):
    """A dense layer with dropout: it draws by linen's own keys."""

    @nn.compact
    def __call__(self, x, train=False):
        x = jnp.tanh(nn.Dense(x.shape[-1], name="dense")(x))
        return nn.Dropout(0.5, deterministic=not train)(x)


def test_a_reversible_pass_draws_again_what_it_has_drawn(float64):
    """Its gradient is that of the values: of their derivative in forward mode."""
    module = ReversiblePropagation(METHOD, Dropped(), DEPTH)
    variables = module.init(jax.random.key(0), X)

    def run(x, seed=1):
        rngs = {"dropout": jax.random.key(seed)}
        return module.apply(variables, x, train=True, rngs=rngs)

    def loss(t):
        return jnp.sin(run(X + t)).sum()

    values = jax.jit(lambda: (run(X), run(X, 2), jax.grad(loss)(0.0)))
    one, other, gradient = values()
    np.testing.assert_allclose(gradient, jax.jit(jax.jacfwd(loss))(0.0), rtol=1e-5)
    assert np.abs(one - other).max() > 0.1


def test_a_reversible_trajectory_is_the_scanned_one():
    scanned = Propagation(METHOD, Dropped(), DEPTH)
    variables = scanned.init(jax.random.key(0), X)
    module = ReversiblePropagation(METHOD, Dropped(), DEPTH)
    found = module.apply(variables, X, trajectory=True)
    expected = scanned.apply(variables, X, trajectory=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found[-1], module.apply(variables, X), atol=1e-6)


def shifted(x, b, key=None):
    return x / 2 + b if key is None else noise(x, key, b)


def test_paths_stages_histories_and_equilibria_take_them():
    two = Propagation(ADMM(), shifted, 2, separate_paths=True).apply({}, X, b=B)
    np.testing.assert_allclose(
        two, Propagation(ADMM(), lambda x: x / 2 + B, 2).apply({}, X), atol=1e-6
    )
    stage = Stage(Propagation(METHOD, shifted, 2)).apply({}, X, b=B)
    one = Propagation(METHOD, shifted, 2).apply({}, X, b=B)
    np.testing.assert_allclose(stage[0], one, atol=1e-6)
    dense = Propagation(HistorySum(1.0, 0.0), Pairwise(shifted), 2, remat=True)
    np.testing.assert_allclose(
        dense.apply({}, X, b=B), X / 2 + B + (X / 2 + B) / 2 + B, atol=1e-6
    )
    # Each of the pairs (k, j) has a key of its own.
    key = jax.random.key(5)
    x = dense.apply({}, X, trajectory=True, b=0.0, key=key)
    layers = [jax.random.split(k, n + 1) for n, k in enumerate(jax.random.split(key))]
    for value, keys in zip(x[1:], layers, strict=True):
        expected = sum(noise(X, k) for k in keys)
        np.testing.assert_allclose(value, expected, atol=1e-5)
    fixed = Equilibrium(heavy_ball(0.1), shifted).apply({}, jnp.zeros_like(X), b=B)
    np.testing.assert_allclose(fixed, 2 * B, rtol=1e-3, atol=1e-4)


class DroppedUnit(nn.Module):
    """A convolution with dropout, for a network: it takes the flag."""

    features: int
    conv: object
    norm: object
    strides: int = 1
    relu: bool = False

    @nn.compact
    def __call__(self, x, train):
        x = self.conv(self.features, 3, self.strides, name="conv")(x)
        return nn.Dropout(0.5, deterministic=not train)(x)


@pytest.mark.parametrize("reversible", [False, True])
def test_a_networks_unit_that_asks_for_it_has_the_train_flag(reversible):
    network = RecurrenceNet(
        METHOD, (1, 2), (3, 4), 2, block=DroppedUnit, reversible=reversible
    )
    images = jax.random.normal(jax.random.key(0), (2, 6, 6, 1))
    variables = network.init(jax.random.key(0), images)

    def trained(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return network.apply(
            variables, images, train=True, rngs=rngs, mutable=["batch_stats"]
        )[0]

    one, other = jax.jit(lambda: (trained(1), trained(2)))()
    assert np.abs(one - other).max() > 1e-3
    network.apply(variables, images)  # evaluation needs no key: it draws nothing


@pytest.mark.parametrize("cls", [Propagation, ReversiblePropagation])
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "by name, nothing: .* missing a required argument: 'b'"),
        ({"b": 1.0, "trajectry": True}, "unexpected keyword argument 'trajectry'"),
    ],
)
def test_what_the_transform_does_not_take_is_one_line(cls, inputs, message):
    with pytest.raises(InputError, match=message) as caught:
        cls(METHOD, shifted, 2).apply({}, X, **inputs)
    assert "\n" not in str(caught.value)
