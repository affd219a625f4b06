import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.recurrences import GradientDescent, NesterovSum
from optnet_jax.studies.hypothesis import training
from optnet_jax.studies.hypothesis.task import Task

TASK = Task("tanh", 10.0, 4)
BUDGET = training.Budget(steps=60, batch_size=16)


@pytest.fixture(scope="module")
def split():
    """x = tanh(W b + b) of one layer: what a network of depth 1 can be exactly."""
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=(64, 4)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(4, 4)) / 3, jnp.float32)
    targets = TASK.propagate(GradientDescent(), w, inputs, 1)
    return training.Split(inputs, targets)


def run(split, seeds, rates, tied=False, depth=1):
    program = training.make_program(TASK, GradientDescent(), depth, tied, BUDGET)
    members = jax.tree.map(lambda x: jnp.stack([x] * len(seeds)), split)
    return program(members, members, jnp.array(seeds), jnp.float32(rates))


def test_it_learns_and_members_differ_in_seed_and_rate(split):
    found = run(split, [0, 0, 1], [0.1, 1e-6, 0.1])
    assert found.error[0] < 0.01
    assert found.error[1] > 10 * found.error[0]
    assert found.error[0] != found.error[2]
    assert found.finite.all()


def test_a_member_does_not_depend_on_the_others(split):
    both = run(split, [3, 5], [0.1, 0.1])
    alone = run(split, [5], [0.1])
    np.testing.assert_allclose(both.error[1], alone.error[0], rtol=1e-4)


def test_divergence_has_the_worst_error(split):
    found = run(split, [0], [1e38], depth=2)
    assert found.error[0] == training.WORST or found.error[0] > 1
    assert training.capped(jnp.float32(jnp.nan)) == training.WORST
    assert training.capped(jnp.float32(jnp.inf)) == training.WORST
    assert training.capped(jnp.float32(2)) == 2


def test_tied_weights_are_one_matrix():
    draw = training.initial_weights
    assert draw(jax.random.key(0), 3, 4, tied=True).shape == (4, 4)
    untied = draw(jax.random.key(0), 300, 16, tied=False)
    assert untied.shape == (300, 16, 16)
    assert float(untied.std()) == pytest.approx(1 / 4, rel=0.02)


def test_the_error_of_the_best_constant_is_1(split):
    constant = split.targets.mean(0)
    power = training.scale(TASK, split.targets)
    error = jnp.mean((split.targets - constant[None]) ** 2)
    assert float(error / power) == pytest.approx(1)
    always_the_same = Task("tanh", 10.0, 4, constant=True)
    power = training.scale(always_the_same, jnp.full((5, 4), 3.0))
    assert float(power) == pytest.approx(9)


def test_the_spread_is_what_depends_on_the_input(split):
    w = jnp.zeros((1, 4, 4))
    task = Task("sigmoid", 10.0, 4, constant=True)
    found = training.measure(task, NesterovSum(), 1, w, split)
    # σ(0) = ½ for all inputs: AGD2's first step is gradient descent's.
    assert float(found.spread) == pytest.approx(0, abs=1e-12)
    moved = training.measure(TASK, NesterovSum(), 1, w, split)
    assert float(moved.spread) > 0.1
