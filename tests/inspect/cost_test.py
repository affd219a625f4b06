import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.inspect.cost import cost, count_multiply_adds


def _count(function, *arguments):
    return count_multiply_adds(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_matrix_products_and_convolutions_count_and_nothing_else_does():
    assert _count(
        lambda a, b: jnp.tanh(a @ b) + 1, jnp.ones((2, 3)), jnp.ones((3, 5))
    ) == (2 * 3 * 5)
    conv = nn.Conv(7, (3, 3), strides=2)
    found = cost(_Network(conv), (8, 8, 3))
    assert found.multiply_adds == 4 * 4 * 7 * 9 * 3
    assert found.parameters == 9 * 3 * 7 + 7
    grouped = nn.Conv(6, (3, 3), feature_group_count=3)
    assert cost(_Network(grouped), (8, 8, 3)).multiply_adds == 8 * 8 * 6 * 9


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


class _Squared(nn.Module):
    @nn.compact
    def __call__(self, images):
        w = self.param("w", nn.initializers.ones, (3, 3))
        return images @ (w @ w)


def test_only_what_depends_on_the_images_counts():
    assert cost(_Network(_Squared()), (2, 5, 3)).multiply_adds == 10 * 9


def test_variables_are_shapes():
    network = _Network(nn.Conv(7, (3, 3)))
    leaves = jax.tree.leaves(cost(network, (8, 8, 3)).variables)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    assert sorted(leaf.shape for leaf in leaves) == [(3, 3, 3, 7), (7,)]


class _Network(nn.Module):
    conv: nn.Module

    @nn.compact
    def __call__(self, images, train=False):
        del train
        return self.conv(images)  # pyright: ignore


def test_a_choice_by_platform_counts_as_its_default():
    def either(x):
        return jax.lax.platform_dependent(
            x, cpu=lambda x: x @ x @ x, default=lambda x: x @ x
        )

    assert _count(either, jnp.ones((3, 3))) == 27
