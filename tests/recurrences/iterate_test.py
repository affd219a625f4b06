import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax import recurrences
from optnet_jax.errors import InputError
from optnet_jax.recurrences import HeavyBall, iterate

METHODS = [
    recurrences.GradientDescent(),
    recurrences.heavy_ball(0.3),
    recurrences.Nesterov(),
    recurrences.NesterovSum(),
    recurrences.HistorySum.nesterov(5),
    recurrences.ADMM(),
    recurrences.TwoPath(),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
class TestEveryMethod:
    def test_trajectory_starts_at_x0_and_ends_at_the_output(self, method):
        x0 = jnp.array([[0.1, -0.5, 2.0]])
        xs = iterate(method, jnp.tanh, x0, 5, trajectory=True)
        assert xs.shape == (6, 1, 3)
        np.testing.assert_array_equal(xs[0], x0)
        np.testing.assert_array_equal(xs[-1], iterate(method, jnp.tanh, x0, 5))

    def test_keeps_a_bfloat16_state(self, method):
        x = iterate(method, jnp.tanh, jnp.ones(3, jnp.bfloat16), 5)
        assert x.dtype == jnp.bfloat16

    def test_jits_differentiates_and_hashes(self, method):
        run = jax.jit(iterate, static_argnums=(0, 1, 3))
        slope = jax.grad(lambda x: run(method, jnp.tanh, x, 5).sum())(jnp.ones(2))
        assert jnp.all(jnp.isfinite(slope))

    def test_its_own_coefficients_are_the_default(self, method):
        c = method.coefficients(5)
        assert all(len(v) == 5 for v in c.values())
        x0 = jnp.linspace(0, 1, 3)
        np.testing.assert_array_equal(
            iterate(method, jnp.tanh, x0, 5, coefficients=c),
            iterate(method, jnp.tanh, x0, 5),
        )


def test_coefficients_are_data():
    """The same object runs with others, and they have gradients."""

    def final(beta1):
        c = {"beta1": beta1, "beta2": jnp.zeros(2)}
        return iterate(HeavyBall(), lambda x: x, jnp.ones(()), 2, coefficients=c)

    beta1 = jnp.array([1.0, 2.0])
    assert final(beta1) == 2 * 3  # (1 + 1)(1 + 2)
    np.testing.assert_allclose(jax.grad(final)(beta1), [3.0, 2.0])


def test_a_weight_for_each_step():
    x = iterate(
        recurrences.GradientDescent(),
        lambda x, w: x * w["scale"],
        jnp.ones(1),
        3,
        weights={"scale": jnp.array([2.0, 3.0, 4.0])},
    )
    assert x == 24


def test_integers_become_floats():
    assert iterate(recurrences.GradientDescent(), jnp.cos, 1, 1).dtype == jnp.float32


@pytest.mark.parametrize(
    ("kwargs", "cause"),
    [
        ({"depth": 0}, "depth must be a whole number of at least 1, got 0"),
        ({"weights": {"w": jnp.ones((2, 1))}}, r"weights\['w'\] .* depth, 3"),
        ({"coefficients": {"beta1": jnp.ones(2)}}, r"coefficients\['beta1'\]"),
    ],
)
def test_bad_input(kwargs, cause):
    arguments = {"depth": 3, **kwargs}
    with pytest.raises(InputError, match=cause):
        iterate(HeavyBall(), lambda x, *_: x, jnp.ones(1), **arguments)
