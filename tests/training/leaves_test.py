import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optnet_jax.errors import InputError
from optnet_jax.training import leaves as leaves_lib
from optnet_jax.training.steps import create_state


def make_state(small):
    module, optimizer = small.SmallNet(), optax.sgd(0.1, momentum=0.9)
    return create_state(module, optimizer, jax.random.key(0), (8, 8, 1))


def test_leaves_are_named_by_their_path_and_go_back(small):
    state = make_state(small)
    leaves = leaves_lib.flatten(state)
    assert "params.Conv_0.kernel" in leaves
    assert "opt_state.0.trace.Conv_0.kernel" in leaves
    jax.tree.map(
        np.testing.assert_array_equal, leaves_lib.unflatten(state, leaves), state
    )


def test_missing_and_surplus_leaves_are_refused():
    one = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    with pytest.raises(InputError, match="it has no b"):
        leaves_lib.check_same_network({"a": one["a"]}, one, "here")
    with pytest.raises(InputError, match="it has b, which"):
        leaves_lib.check_same_network(one, {"a": one["a"]}, "here")


def test_checksums_see_every_bit_dtype_and_shape(small):
    leaves = leaves_lib.flatten(make_state(small))
    before = leaves_lib.leaf_checksums(leaves)
    name = "params.Conv_0.kernel"
    value = np.asarray(leaves[name])
    for changed in (
        np.nextafter(value, np.float32(9)),
        value.reshape(9, 4),
        value.view(np.int32),
    ):
        after = leaves_lib.leaf_checksums({**leaves, name: changed})
        assert [n for n in before if before[n] != after[n]] == [name]


def test_the_checksum_of_a_tree_does_not_depend_on_its_order():
    a = {"x": np.ones(2), "y": np.zeros(2)}
    b = {"y": np.zeros(2), "x": np.ones(2)}
    assert leaves_lib.tree_checksum(a) == leaves_lib.tree_checksum(b)
    c = {"x": np.zeros(2), "y": np.ones(2)}
    assert leaves_lib.tree_checksum(a) != leaves_lib.tree_checksum(c)
