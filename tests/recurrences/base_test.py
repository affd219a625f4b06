import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax import recurrences
from optnet_jax.errors import InputError
from optnet_jax.recurrences import base, methods


class TenLineMethod:
    """What a user writes in a notebook: four methods, no base class."""

    def coefficients(self, depth):
        return {"a": np.linspace(0.1, 0.5, depth)}

    def init(self, x0):
        return x0

    def step(self, transform, state, c):
        return transform(state) + c["a"] * state

    def output(self, state):
        return state


def test_paths_are_one_unless_the_method_says():
    assert base.number_of_paths(TenLineMethod()) == 1
    assert base.number_of_paths(recurrences.ADMM()) == 2
    assert base.number_of_paths(recurrences.TwoPath()) == 2


@pytest.mark.parametrize("mu", [0, -0.1, 1.1, True, "a", [0.1, 0.2]])
def test_mu_is_a_number_of_which_coefficients_can_be_made(mu):
    for tuned in (recurrences.triple_momentum, methods.find("hb_tuned").recurrence):
        with pytest.raises(InputError, match="^mu must be"):
            tuned(mu)


@pytest.mark.parametrize("depth", [0, -1, 2.0, True, "3"])
def test_depth_must_be_a_positive_integer(depth):
    with pytest.raises(InputError, match="whole number of at least 1"):
        base.check_depth(depth)


def test_per_step_spreads_scalars_and_checks_lengths():
    np.testing.assert_array_equal(base.per_step("beta", 0.5, 3), [0.5, 0.5, 0.5])
    np.testing.assert_array_equal(base.per_step("beta", [1, 2], 2), [1.0, 2.0])
    with pytest.raises(
        InputError, match=r"beta must be a scalar or have one entry.* 3"
    ):
        base.per_step("beta", [1, 2], 3)


def test_pair_shares_one_operator_or_takes_two():
    assert base.pair(abs) == (abs, abs)
    assert base.pair((abs, min)) == (abs, min)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("0.3", "must be a number"),
        ([1, [2, 3]], "must be a number"),
        (1j, "must be a number"),
        (object(), "must be a number"),
        ([0.1, None], "must be a number"),
        ([0.1, float("nan")], "must be finite"),
        ([0.1, 1e40], "must be finite in single precision"),
    ],
)
@pytest.mark.parametrize(
    "make",
    [
        recurrences.heavy_ball,
        recurrences.HeavyBall,
        recurrences.Nesterov,
        recurrences.NesterovSum,
        recurrences.TwoPath,
        lambda value: recurrences.HistorySum(value, value),
    ],
)
def test_a_coefficient_of_a_wrong_kind_is_refused_in_one_line(make, value, cause):
    with pytest.raises(InputError, match=cause) as caught:
        make(value)
    assert "\n" not in str(caught.value)


def test_a_traced_coefficient_stays_and_where_numbers_are_needed_the_cure_is_named():
    def entry(beta):
        return recurrences.HeavyBall(beta, 0).coefficients(2)["beta1"][1]

    assert jax.grad(entry)(0.5) == 1.0
    with pytest.raises(InputError, match=r"iterate\(..., coefficients=...\)"):
        jax.jit(lambda h: recurrences.HistorySum(h, h))(jnp.eye(2))


def test_rows_are_packed_for_training_and_unpacked_for_the_steps():
    for rows in ((np.ones(1), np.arange(2.0)), [[1.0], [0.0, 1.0]]):
        array = base.packed(rows)
        np.testing.assert_array_equal(array, [1, 0, 1])
        first, second = base.unpacked(2 * array, rows)
        assert (first.tolist(), second.tolist()) == ([2], [0, 2])
    assert base.unpacked(3.0, base.packed(0.5)) == 3.0
    coefficients = {"a": 0.5, "b": np.arange(2), "rows": [[1.0], [0.0, 1.0]]}
    assert base.at_step(coefficients, 1) == {"a": 0.5, "b": 1, "rows": [0.0, 1.0]}
