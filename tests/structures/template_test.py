"""Every copy of a transform has weights of its own, whatever modules it holds."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from optnet_jax.errors import InputError
from optnet_jax.recurrences import ADMM, HeavyBall, HistorySum, TwoPath, heavy_ball
from optnet_jax.recurrences.base import number_of_paths
from optnet_jax.structures import (
    FullyConnected,
    Propagation,
    ReversiblePropagation,
    Stage,
    stack_layers,
    template,
    unroll_layers,
)

DEPTH = 3
X = jnp.linspace(-1, 1, 8).reshape(2, 4)


class Holder(nn.Module):
    """A module that applies those in its field one after the other."""

    inner: Any

    @nn.compact
    def __call__(self, x):
        parts = self.inner.values() if hasattr(self.inner, "values") else self.inner
        for part in parts if not callable(parts) else (parts,):
            x = part(x)
        return jnp.tanh(x)

    def plain(self, x):
        return self.inner(x)


def dense():
    return nn.Dense(4)


# name: the transform and the number of its parameters.
TRANSFORMS = {
    "nested": (nn.Sequential([dense(), nn.tanh, dense()]), 40),
    "doubly nested": (Holder(nn.Sequential([dense(), Holder((dense(),))])), 40),
    "in a dict of lists": (Holder({"a": Holder([dense(), dense()]), "b": nn.tanh}), 40),
    "normalised weights": (nn.WeightNorm(dense()), 24),
    "an activation": (FullyConnected(nn.PReLU()), 17),
    "a partial": (functools.partial(Holder(dense())), 20),
    "a partial inside": (FullyConnected(functools.partial(Holder(dense()))), 36),
    "a method": (Holder(dense()).plain, 20),
    "another propagation": (Propagation(heavy_ball(0.3), Holder(dense()), 2), 40),
}
# name: the recurrence and the fields of the propagation.
STRUCTURES = {
    "scanned": (heavy_ball(0.3), {}),
    "unrolled": (heavy_ball(0.3), {"unroll": True}),
    "remat": (heavy_ball(0.3), {"remat": True}),
    "tied": (heavy_ball(0.3), {"tied": True}),
    "tied, unrolled": (heavy_ball(0.3), {"tied": True, "unroll": True}),
    "two paths": (ADMM(), {"separate_paths": True}),
    "two paths, unrolled": (TwoPath(), {"separate_paths": True, "unroll": True}),
    "two paths, tied": (ADMM(), {"separate_paths": True, "tied": True}),
    "reversible": (HeavyBall(1, -1), {"reversible": True}),
}


def _drawn(network, x=X):
    """Draw every parameter at random, biases and scales too, without a compilation."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), x)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.5, s.shape)), shapes)


def _count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


def _step_by_step(recurrence, transform, variables, fields):
    """Run the recurrence in Python, layer k with its own slice of the variables."""
    params = variables["params"]
    state = recurrence.init(X)
    coefficients = recurrence.coefficients(DEPTH)
    module = template.copy(transform)
    for k in range(DEPTH):
        if fields.get("tied"):
            layer = params["layers"]
        elif fields.get("unroll"):
            layer = params[f"layer_{k}"]
        else:
            layer = jax.tree.map(lambda a, k=k: a[k], params["layers"])
        names = ["transform_prime", "transform"] if len(layer) == 2 else ["transform"]
        operators = tuple(
            functools.partial(module.apply, {"params": layer[name]}) for name in names
        )
        operator = operators if len(operators) == 2 else operators[0]
        c = {name: values[k] for name, values in coefficients.items()}
        state = recurrence.step(operator, state, c)
    return recurrence.output(state)


# What linen itself copies is held in every structure, our own wrappings in the two
# ways in which a copy is made.
CASES = [
    (held, structure)
    for i, held in enumerate(TRANSFORMS)
    for structure in (
        STRUCTURES if i in (0, 1, 3) else ("scanned", "two paths, unrolled")
    )
]


@pytest.mark.parametrize(("held", "structure"), CASES)
def test_each_layer_and_path_runs_with_weights_of_its_own(held, structure):
    transform, size = TRANSFORMS[held]
    recurrence, fields = STRUCTURES[structure]
    kinds = {key: value for key, value in fields.items() if key != "reversible"}
    structure = ReversiblePropagation if "reversible" in fields else Propagation
    network = structure(recurrence, transform, DEPTH, **kinds)
    variables = _drawn(network)
    copies = 1 if fields.get("tied") else DEPTH
    assert _count(variables) == size * copies * number_of_paths(recurrence)
    np.testing.assert_allclose(
        network.apply(variables, X),
        _step_by_step(recurrence, transform, variables, fields),
        atol=1e-5,
    )


@pytest.mark.parametrize("held", ["doubly nested", "normalised weights", "a partial"])
def test_both_layouts_convert_into_each_other_and_have_independent_gradients(
    assert_close, held
):
    transform, _ = TRANSFORMS[held]
    scanned = Propagation(heavy_ball(0.3), transform, DEPTH)
    written_out = Propagation(heavy_ball(0.3), transform, DEPTH, unroll=True)
    variables = _drawn(scanned)
    unrolled = unroll_layers(variables)
    jax.tree.map(np.testing.assert_array_equal, stack_layers(unrolled), variables)

    def loss(network, variables):
        return network.apply(variables, X).sum()

    gradient = jax.grad(functools.partial(loss, scanned))(variables)
    expected = jax.grad(functools.partial(loss, written_out))(unrolled)
    assert_close(unroll_layers(gradient), expected, 1e-7, 1e-5)
    for leaf in jax.tree.leaves(gradient):
        assert not jnp.allclose(leaf[0], leaf[1])


@pytest.mark.parametrize("reversible", [False, True])
def test_reversible_gradients_of_nested_modules_are_those_of_the_scan(
    assert_close, reversible
):
    transform, _ = TRANSFORMS["doubly nested"]
    structure = ReversiblePropagation if reversible else Propagation
    network = structure(HeavyBall(1, -1), transform, DEPTH)
    variables = _drawn(network)
    gradient = jax.grad(lambda v: (network.apply(v, X) ** 2).sum())(variables)
    expected = jax.grad(
        lambda v: (_step_by_step(HeavyBall(1, -1), transform, v, {}) ** 2).sum()
    )(variables)
    assert_close(gradient, expected, 1e-3, 1e-4)


class Widening(nn.Module):
    """A transition whose parts are handed to it, as to a user's own."""

    inner: nn.Module

    @nn.compact
    def __call__(self, x):
        return self.inner(x), x


def test_a_stage_has_weights_of_its_own_in_each_path_and_layer():
    transition = functools.partial(Widening, Holder(dense()))
    layers = Propagation(TwoPath(), Holder(dense()), 2, separate_paths=True)
    stage = Stage(layers, transition)
    params = _drawn(stage)["params"]
    assert _count(params["transition"]) == _count(params["transition_prime"]) == 20
    assert _count(params["propagation"]) == 20 * 2 * 2


class Weighted(nn.Module):
    """A combination of a history that holds another module."""

    inner: Any

    @nn.compact
    def __call__(self, sources, alpha):
        return sum(self.inner(source) for source in sources)


def test_each_combination_of_a_history_has_weights_of_its_own():
    held = Holder(nn.Sequential([dense(), dense()]))
    stage = Propagation(HistorySum(), Weighted(held), DEPTH)
    variables = _drawn(stage)
    assert _count(variables) == 40 * DEPTH
    z = [X]
    for k in range(DEPTH):
        apply = functools.partial(
            held.apply, {"params": variables["params"][f"layer_{k}"]["inner"]}
        )
        z.append(sum(map(apply, z)))
    np.testing.assert_allclose(stage.apply(variables, X), z[-1], atol=1e-5)


def test_a_module_in_two_places_is_one_module_in_the_copy():
    shared = dense()
    copied = template.copy(Holder([shared, Holder(shared)]))
    assert copied.inner[0] is copied.inner[1].inner
    assert copied.inner[0] is not shared


def test_what_holds_no_module_is_left_as_it_is():
    for value in (nn.tanh, functools.partial(nn.Dense, 4), [1, {"a": jnp.ones(2)}]):
        assert template.copy(value) is value


def test_a_function_over_the_weights_of_a_module_is_taken_for_a_fixed_operator():
    module = dense()
    variables = module.init(jax.random.key(0), X)
    network = Propagation(heavy_ball(0.3), lambda x: module.apply(variables, x), 2)
    assert network.init(jax.random.key(0), X) == {}


class Closing(nn.Module):
    """Closes over a module that it has made."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(4)
        return Propagation(heavy_ball(0.3), lambda x: layer(x), 2, unroll=True)(x)


class Making(nn.Module):
    """Hands over a module that it has made, which linen has bound to it."""

    @nn.compact
    def __call__(self, x):
        return Propagation(heavy_ball(0.3), Holder(nn.Dense(4)), 2, name="p")(x)


def test_a_module_made_in_another_one_is_copied_and_one_closed_over_is_refused():
    assert _count(_drawn(Making())["params"]["p"]) == 2 * 20
    with pytest.raises(InputError, match="closed over a module"):
        _drawn(Closing())


def test_modules_whose_weights_linen_does_not_see_are_refused_with_the_cure():
    linear = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
    for transform in (linear, nn.Sequential([linear]), functools.partial(linear)):
        with pytest.raises(InputError, match=r"to_linen\(Linear"):
            _drawn(Propagation(heavy_ball(0.3), transform, 2))
    wrapped = nnx.bridge.to_linen(nnx.Linear, 4, 4)
    variables = Propagation(heavy_ball(0.3), wrapped, 2).init(jax.random.key(0), X)
    assert _count(variables["params"]) == 2 * 20


def test_modules_that_no_layer_could_own_are_refused():
    with pytest.raises(InputError, match="separate_paths=True"):
        Propagation(ADMM(), (dense(), dense()), 2)  # pyright: ignore
    with pytest.raises(InputError, match="a field of HeavyBall is a module"):
        Propagation(HeavyBall(1, -1, nn.PReLU()), dense(), 2)
    layers = Propagation(heavy_ball(0.3), dense(), 2)
    with pytest.raises(InputError, match="post_activation is a module"):
        Stage(layers, post_activation=nn.PReLU())
