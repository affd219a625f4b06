import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.recurrences import TwoPath, heavy_ball
from optnet_jax.structures import FullyConnected, Propagation, Stage

X = jnp.linspace(-1, 1, 8).reshape(2, 4)


class Widen(nn.Module):
    """x ↦ (W x, [x, 0]), or no shortcut."""

    features: int = 6
    skip: bool = True

    @nn.compact
    def __call__(self, x):
        missing = self.features - x.shape[-1]
        shortcut = jnp.pad(x, ((0, 0), (0, missing))) if self.skip else None
        return nn.Dense(self.features, use_bias=False, name="w")(x), shortcut


def _run(recurrence, depth=2, transition=Widen, x=X, separate_paths=False, **fields):
    layers = Propagation(
        recurrence, FullyConnected(jnp.tanh), depth, separate_paths=separate_paths
    )
    stage = Stage(layers, transition, **fields)
    y, variables = stage.init_with_output(jax.random.key(0), x)
    return y, variables["params"]


def _layer(params, k, x, name="transform"):
    return jnp.tanh(x @ params["propagation"]["layers"][name]["linear"]["kernel"][k])


@pytest.mark.parametrize("previous", ["shortcut", "same", "zero"])
def test_transition_is_a_residual_step_and_gives_the_previous_iterate(previous):
    (y,), params = _run(heavy_ball(0.5), previous=previous, post_activation=jax.nn.relu)
    shortcut = jnp.pad(X, ((0, 0), (0, 2)))
    x = jax.nn.relu(X @ params["transition"]["w"]["kernel"] + shortcut)
    x_previous = {"shortcut": shortcut, "same": x, "zero": jnp.zeros_like(x)}[previous]
    for k in range(2):
        x, x_previous = _layer(params, k, x) + 0.5 * (x - x_previous), x
    np.testing.assert_allclose(y, x, atol=1e-6)


def test_without_a_shortcut_the_transition_is_plain():
    transition = functools.partial(Widen, skip=False)
    (y,), params = _run(heavy_ball(0.5), depth=0, transition=transition)
    np.testing.assert_allclose(y, X @ params["transition"]["w"]["kernel"], atol=1e-6)


def test_without_a_transition_the_recurrence_starts_from_the_input():
    (y,), params = _run(heavy_ball(0.5), 1, None, previous="zero")
    np.testing.assert_allclose(y, _layer(params, 0, X) + 0.5 * X, atol=1e-6)


def test_two_paths_have_their_own_transition_and_share_the_merged_shortcut():
    x = (X, 2 * X)
    y, params = _run(TwoPath(), 1, x=x, separate_paths=True)
    merged = 1.5 * jnp.pad(X, ((0, 0), (0, 2)))
    x_prime = x[0] @ params["transition_prime"]["w"]["kernel"] + merged
    x = x[1] @ params["transition"]["w"]["kernel"] + merged
    mean = (x_prime + x) / 2
    np.testing.assert_allclose(
        y[0], _layer(params, 0, x_prime, "transform_prime") + mean, atol=1e-6
    )
    np.testing.assert_allclose(y[1], _layer(params, 0, x) + mean, atol=1e-6)


def test_paths_without_weights_of_their_own_share_the_transition():
    (x_prime, x), params = _run(TwoPath(), 1)
    assert set(params) == {"transition", "propagation"}
    np.testing.assert_array_equal(x_prime, x)


def test_bad_fields_are_named():
    with pytest.raises(InputError, match="previous=.* use shortcut or same"):
        _run(heavy_ball(0.5), previous="last")
    with pytest.raises(InputError, match="at least one unit"):
        _run(heavy_ball(0.5), 0, None)


@pytest.mark.parametrize(
    ("method", "x"), [(heavy_ball(0.5), (X, X)), (TwoPath(), (X,))]
)
@pytest.mark.parametrize("depth", [0, 1])
def test_iterates_of_another_number_of_paths_are_refused(method, x, depth):
    with pytest.raises(InputError, match=f"one of each path, got {len(x)}"):
        _run(method, depth, x=x)
