import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.networks.cost import (
    abstract_variables,
    count_multiply_adds,
    count_parameters,
    multiply_adds,
)


def _count(function, *arguments):
    return count_multiply_adds(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_matrix_products_and_convolutions_count_and_nothing_else_does():
    assert _count(
        lambda a, b: jnp.tanh(a @ b) + 1, jnp.ones((2, 3)), jnp.ones((3, 5))
    ) == (2 * 3 * 5)
    image = jnp.ones((1, 8, 8, 3))
    conv = nn.Conv(7, (3, 3), strides=2)
    assert multiply_adds(_Network(conv), (8, 8, 3)) == 4 * 4 * 7 * 9 * 3
    grouped = nn.Conv(6, (3, 3), feature_group_count=3)
    assert multiply_adds(_Network(grouped), (8, 8, 3)) == 8 * 8 * 6 * 9
    variables = conv.init(jax.random.key(0), image)
    assert count_parameters(variables["params"]) == 9 * 3 * 7 + 7


def test_a_scan_counts_every_step_and_a_jit_its_body():
    w = jnp.ones((4, 3, 3))

    def scanned(x):
        return jax.lax.scan(lambda x, w: (jax.jit(jnp.dot)(w, x), None), x, w)[0]

    assert _count(scanned, jnp.ones(3)) == 4 * 9


def test_a_conditional_counts_its_dearest_branch():
    w = jnp.ones((3, 3))

    def either(x):
        return jax.lax.cond(x[0] > 0, lambda: w @ (w @ x), lambda: w @ x)

    assert _count(either, jnp.ones(3)) == 2 * 9


def test_abstract_variables_allocate_nothing():
    leaves = jax.tree.leaves(
        abstract_variables(_Network(nn.Conv(7, (3, 3))), (8, 8, 3))
    )
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    assert sorted(leaf.shape for leaf in leaves) == [(3, 3, 3, 7), (7,)]


class _Network(nn.Module):
    conv: nn.Module

    @nn.compact
    def __call__(self, images, train=False):
        del train
        return self.conv(images)  # pyright: ignore
