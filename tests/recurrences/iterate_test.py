import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax import recurrences
from optnet_jax.errors import InputError
from optnet_jax.recurrences import HeavyBall, HistorySum, iterate, methods
from optnet_jax.structures import Equilibrium, FullyConnected, Propagation

METHODS = {
    **{m.key: m.recurrence(0.01) for m in methods.METHODS},
    "history_sum": HistorySum("nesterov", "nesterov"),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
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

    def test_samples_on_several_devices_are_those_on_one(self, method):
        mesh = jax.sharding.Mesh(jax.devices()[:2], ("data",))
        run = functools.partial(iterate, method, jnp.tanh, depth=5)
        x0 = jnp.linspace(-1, 2, 8).reshape(2, 4)
        found = jax.shard_map(
            run, mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P("data")
        )(x0)
        np.testing.assert_allclose(found, run(x0), rtol=1e-5, atol=1e-6)

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
        (
            {"coefficients": dict.fromkeys(("beta1", "beta2"), jnp.ones(2))},
            r"coefficients\['beta1'\]",
        ),
        ({"coefficients": {"beta1": jnp.ones(3)}}, "dict of beta1, beta2; got beta1$"),
        (
            {"coefficients": dict.fromkeys(("beta1", "beta2", "beta"), jnp.ones(3))},
            "got beta1, beta2, beta$",
        ),
        (
            {"coefficients": {"beta1": [1, 1, float("nan")], "beta2": jnp.ones(3)}},
            r"coefficients\['beta1'\] must be finite",
        ),
    ],
)
def test_bad_input(kwargs, cause):
    arguments = {"depth": 3, **kwargs}
    with pytest.raises(InputError, match=cause):
        iterate(HeavyBall(), lambda x, *_: x, jnp.ones(1), **arguments)


class TestStart:
    def test_a_pair_starts_each_path_for_itself(self):
        x_prime, x = jnp.ones(3), jnp.zeros(3)
        xs = iterate(recurrences.ADMM(), jnp.tanh, (x_prime, x), 1)
        new = (np.tanh(1.0) + 0 - 0) / 2
        np.testing.assert_allclose(xs, (np.tanh(0.0) + new + 0) / 2, rtol=1e-6)

    def test_a_pair_has_one_dtype(self):
        start = (jnp.ones(3, int), jnp.zeros(3))
        assert iterate(recurrences.ADMM(), jnp.tanh, start, 2).dtype == jnp.float32

    @pytest.mark.parametrize(
        ("method", "start", "cause"),
        [
            (HeavyBall(), (jnp.ones(3), jnp.ones(3)), "HeavyBall has one path"),
            (HeavyBall(), "one", "x_0 must be an array of numbers, got 'one'"),
            (HeavyBall(), None, "x_0 must be an array of numbers, got None"),
            (HeavyBall(), np.ones(3, ">f4"), "x_0 has another machine's byte order"),
            (recurrences.ADMM(), (jnp.ones(3),) * 3, "ADMM has two paths"),
            (recurrences.ADMM(), [jnp.ones(3)] * 2, "ADMM has two paths, and a list"),
            (recurrences.ADMM(), [1.0, np.ones(())], "give a tuple, or jnp.stack"),
            (recurrences.ADMM(), (jnp.ones(3), jnp.ones(1)), r"shapes \(3,\), \(1,\)"),
        ],
    )
    def test_other_tuples_are_refused(self, method, start, cause):
        with pytest.raises(InputError, match=cause):
            iterate(method, jnp.tanh, start, 2)

    @pytest.mark.parametrize(
        ("method", "start"),
        [
            (HeavyBall(), [jnp.ones(3), jnp.zeros(3)]),
            (recurrences.ADMM(), [[1, 2, 3], [4, 5, 6]]),
        ],
    )
    def test_other_lists_are_arrays(self, method, start):
        np.testing.assert_array_equal(
            iterate(method, jnp.tanh, start, 2),
            iterate(method, jnp.tanh, jnp.array(start), 2),
        )


class TestOperator:
    @pytest.mark.parametrize(
        ("method", "operator", "cause"),
        [
            (HeavyBall(), lambda x: x[:1], r"maps \(2, 3\) to \(1, 3\)"),
            (HeavyBall(), jnp.sum, r"maps \(2, 3\) to \(\)"),
            (HeavyBall(), lambda x: [x, x], r"maps \(2, 3\) to a list"),
            (recurrences.ADMM(), (jnp.tanh, jnp.sum), r"maps \(2, 3\) to \(\)"),
            (HeavyBall(), lambda x: x * 1j, "real numbers to complex ones"),
            (HeavyBall(), (jnp.tanh, jnp.tanh), "1 of its iterates.* 2 operators"),
            (recurrences.ADMM(), (jnp.tanh,) * 3, "2 of its iterates.* 3 operators"),
            (HeavyBall(), (jnp.tanh,), "give it one, no tuple"),
            (recurrences.ADMM(), (jnp.tanh,), "give it a pair, or one for both"),
        ],
    )
    def test_that_does_not_fit_is_refused(self, method, operator, cause):
        with pytest.raises(InputError, match=cause):
            iterate(method, operator, jnp.ones((2, 3)), 2)


class Own:
    """A user's method, some of whose parts a test replaces by mistakes."""

    def __init__(self, **parts):
        vars(self).update(parts)

    def coefficients(self, depth):
        return {"a": jnp.ones(depth)}

    def init(self, x0):
        return x0, 0

    def step(self, transform, state, c):
        return transform(state[0]), state[1] + 1

    def output(self, state):
        return state[0]


def test_what_is_not_finite_is_refused_where_it_is_traced():
    method = Own(coefficients=lambda depth: {"a": jnp.full(depth, jnp.inf)})
    with pytest.raises(InputError, match="'a'. must be finite .*, got Array.*inf"):
        jax.eval_shape(lambda x: iterate(method, jnp.tanh, x, 2), jnp.ones(3))


def test_a_key_that_the_transform_lacks_is_not_said_of_the_step():
    with pytest.raises(KeyError, match="'w'"):
        iterate(Own(), lambda x: {}["w"], jnp.ones(()), 3)


def test_coefficients_may_be_of_less_than_32_bits():
    method = Own(coefficients=lambda depth: {"a": jnp.ones(depth, jnp.bfloat16)})
    assert iterate(method, lambda x: 2 * x, jnp.ones(()), 3) == 8


def test_a_state_may_hold_a_python_number():
    assert iterate(Own(), lambda x: 2 * x, jnp.ones(()), 3) == 8
    growing = Own(
        history=True,
        step=lambda t, s, c: ((*s[0], t(s[0])), len(s[0])),
        init=lambda x: ((x,), 0),
        output=lambda s: s[0][-1],
    )
    # x_1 = 2, x_2 = 2 (1 + 2)
    assert iterate(growing, lambda x: 2 * x, jnp.ones(()), 2) == 6


@jax.tree_util.register_pytree_node_class
class Opaque:
    """A user's state, which neither compares nor prints what it holds."""

    def __init__(self, x, steps):
        self.x, self.steps = x, steps

    def tree_flatten(self):
        return (self.x, self.steps), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def test_a_state_may_be_of_any_registered_class():
    def method(step):
        return Own(init=lambda x: Opaque(x, 0), step=step, output=lambda s: s.x)

    counting = method(lambda t, s, c: Opaque(t(s.x), s.steps + 1))
    growing = method(lambda t, s, c: Opaque(t(s.x), jnp.ones(2)))
    other = method(lambda t, s, c: (t(s.x), s.steps))
    for run in (
        lambda method: iterate(method, lambda x: 2 * x, jnp.ones(()), 3),
        lambda method: Propagation(method, lambda x: 2 * x, 3).apply({}, jnp.ones(())),
    ):
        assert run(counting) == 8
        with pytest.raises(
            InputError, match=r"shapes \(\(\), \(2,\)\) instead of \(\(\)"
        ):
            run(growing)
        with pytest.raises(InputError, match=r"structure .* instead of .*Opaque"):
            run(other)


@pytest.mark.parametrize(
    ("method", "cause"),
    [
        (HeavyBall, r"is the class HeavyBall: make one, HeavyBall\(\)"),
        (None, "None is no recurrence: it has no method coefficients, init"),
        (Own(step=None), "no method step$"),
        (Own(coefficients=lambda depth: [1.0]), "Own.coefficients must return a dict"),
        (
            Own(coefficients=lambda depth: {1: jnp.ones(depth)}),
            "a dict of arrays by na",
        ),
        (
            Own(coefficients=lambda depth: {"a": jnp.full(depth, jnp.nan)}),
            r"Own.coefficients\['a'\] must be finite",
        ),
        (
            Own(history=True, coefficients=lambda d: {"a": [np.full(1, np.inf)] * d}),
            r"Own.coefficients\['a'\] must be finite|takes the whole history",
        ),
        (
            Own(coefficients=lambda: {}),
            r"Own.coefficients is called with \(depth\): it takes \(\)",
        ),
        (
            Own(step=lambda transform, state: state),
            r"Own.step is called with \(transform, state, c\): it takes \(transform, s",
        ),
        (
            Own(undo=lambda state: state),
            r"Own.undo is called with .* takes \(state\)",
        ),
        (
            Own(step=lambda t, s, c: (c["b"] * s[0], s[1])),
            "Own.step looks up 'b', and Own.coefficients returns a dict of a",
        ),
        (Own(paths=3), "Own.paths=3 must be 1 or 2"),
        (Own(init=lambda x: (x, "none")), "the state of Own, .* is no pytree of arr"),
        (Own(init=lambda x: {1, 2}), "is no pytree of arrays"),
        (
            Own(output=lambda s: s),
            r"Own.output returns what has shape \(\(2, 3\), \(\)",
        ),
        (Own(output=lambda s: None), "Own.output returns .* None, x_0 has .2, 3.: ret"),
        (Own(output=lambda s: s[0].mean()), r"shape \(\), x_0 has \(2, 3\): return"),
        (Own(step=lambda t, s, c: s[0]), "Own.step returns a state of another form"),
        (Own(step=lambda t, s, c: (*s, s[0])), "instead of .*2, 3"),
        (Own(step=lambda t, s, c: (s[0][:1], s[1])), r"shapes \(\(1, 3\), \(\)\) in"),
    ],
)
def test_a_users_mistake_is_one_line(method, cause):
    for run in (
        lambda: iterate(method, jnp.tanh, jnp.ones((2, 3)), 2),
        lambda: Propagation(method, jnp.tanh, 2).apply({}, jnp.ones((2, 3))),
        lambda: Equilibrium(method, jnp.tanh).apply({}, jnp.ones((2, 3))),
    ):
        with pytest.raises(InputError, match=cause) as caught:
            run()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("transform", "cause"),
    [
        (FullyConnected, r"the class FullyConnected: make one, FullyConnected\(\)"),
        (None, "must be a linen module or a function, got None"),
        ("relu", "got 'relu'"),
    ],
)
def test_a_transform_that_is_none_is_one_line(transform, cause):
    for run in (
        lambda: iterate(HeavyBall(), transform, jnp.ones(3), 2),
        lambda: Propagation(HeavyBall(), transform, 2),
        lambda: Equilibrium(HeavyBall(), transform),
    ):
        with pytest.raises(InputError, match=cause):
            run()


def test_a_traced_coefficient_has_a_gradient():
    def final(beta):
        return iterate(recurrences.heavy_ball(beta), lambda x: x / 2, jnp.ones(()), 2)

    # x_1 = ½, x_2 = ¼ + β (½ - 1)
    assert jax.grad(final)(0.3) == -0.5
    assert jax.jit(final)(0.5) == 0.0


def test_a_list_of_traced_numbers_is_to_be_an_array():
    def final(beta, make):
        given = {"beta1": make([beta, beta]), "beta2": np.zeros(2)}
        return iterate(HeavyBall(), jnp.sin, jnp.ones(()), 2, coefficients=given)

    with pytest.raises(InputError, match="'beta1'. holds traced .* by jnp.asarray"):
        jax.grad(final)(0.5, list)
    assert jax.grad(final)(0.5, jnp.asarray) > 1
