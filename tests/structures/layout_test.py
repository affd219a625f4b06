import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.recurrences import heavy_ball
from optnet_jax.structures import (
    FullyConnected,
    Propagation,
    stack_layers,
    unroll_layers,
)

X = jnp.linspace(-1, 1, 6).reshape(2, 3)


def _network(unroll):
    return Propagation(
        heavy_ball(0.3), FullyConnected(), 3, learned=("beta1",), unroll=unroll
    )


def test_converted_variables_run_in_the_other_layout():
    scanned = _network(False).init(jax.random.key(0), X)
    unrolled = unroll_layers(scanned)
    expected = _network(True).init(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, unrolled) == jax.tree.map(jnp.shape, expected)
    np.testing.assert_allclose(
        _network(True).apply(unrolled, X), _network(False).apply(scanned, X), rtol=1e-6
    )


def test_conversions_undo_each_other_and_leave_the_rest(assert_close):
    scanned = _network(False).init(jax.random.key(0), X)
    tree = {"stage": scanned, "head": {"kernel": X}}
    assert_close(stack_layers(unroll_layers(tree)), tree, 0)


def test_layers_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="expected layer_0 to layer_1"):
        stack_layers({"layer_0": X, "layer_2": X})
    with pytest.raises(InputError, match="they differ"):
        stack_layers({"layer_0": {"a": X}, "layer_1": {"a": X, "b": X}})
    with pytest.raises(InputError, match=r"\[2, 3\]"):
        unroll_layers({"layers": {"a": X, "b": X.T}})
