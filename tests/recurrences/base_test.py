import jax
import jax.numpy as jnp
import pytest

from optnet_jax import recurrences
from optnet_jax.errors import InputError
from optnet_jax.recurrences import base, methods


def test_paths_are_one_unless_the_method_says():
    assert base.number_of_paths(recurrences.GradientDescent()) == 1
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
