import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.networks.branches import MLP, Attention, PatchStem, Skip

X = jax.random.normal(jax.random.key(0), (2, 5, 8))


def test_a_skip_adds_x_to_what_its_branches_add_to_it():
    branches = (Attention(8, heads=2), MLP(8, hidden=16))
    variables = Skip(branches, True).init(jax.random.key(1), X)
    with_skip, without = (
        Skip(branches, skip).apply(variables, X) for skip in (True, False)
    )
    np.testing.assert_allclose(with_skip, X + without, atol=1e-6)
    assert np.abs(without).max() > 0.1


def test_branches_compute_in_their_dtype_and_keep_that_of_x():
    branch = MLP(8, hidden=16, dtype=jnp.bfloat16)
    skip = Skip((branch,), True)
    variables = skip.init(jax.random.key(1), X)
    inside = {"params": variables["params"]["branches_0"]}
    assert branch.apply(inside, X).dtype == jnp.bfloat16
    y = skip.apply(variables, X)
    assert y.dtype == jnp.float32
    # x is not rounded: only what is added to it is.
    moved = np.asarray(y - X)
    np.testing.assert_allclose(moved, moved.astype(jnp.bfloat16), rtol=0, atol=1e-6)


def test_tokens_attend_to_one_another_whatever_their_order():
    branch = Attention(8, heads=4)
    variables = branch.init(jax.random.key(1), X)
    order = jnp.array([3, 1, 4, 0, 2])
    np.testing.assert_allclose(
        branch.apply(variables, X)[:, order],
        branch.apply(variables, X[:, order]),
        atol=1e-6,
    )
    moved = X.at[:, 4].multiply(jnp.arange(8.0))
    difference = branch.apply(variables, X) - branch.apply(variables, moved)
    assert np.abs(difference).max((0, 2)).min() > 1e-3


def test_a_token_is_a_patch_and_its_position():
    images = jax.random.normal(jax.random.key(0), (2, 4, 8, 3))
    stem = PatchStem(6, 4, class_token=True)
    variables = stem.init(jax.random.key(1), images)
    tokens = stem.apply(variables, images)
    assert tokens.shape == (2, 3, 6)
    params = variables["params"]
    kernel = params["conv"]["kernel"].reshape(-1, 6)
    second = images[:, :, 4:].reshape(2, -1) @ kernel + params["position"][:, 2]
    np.testing.assert_allclose(tokens[:, 2], second, atol=1e-5)
    first = np.broadcast_to(params["position"][0, 0], (2, 6))
    np.testing.assert_allclose(tokens[:, 0], first, atol=1e-6)
