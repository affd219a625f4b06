import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.objectives import activation_pair, square_root
from optnet_jax.recurrences import GradientDescent
from optnet_jax.studies import learnable

double = pytest.mark.usefixtures("float64")


@double
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_the_target_is_the_minimiser(activation):
    task = learnable.Task(activation, 30.0, 6)
    problem = learnable.draw(task, (20, 5), seed=1)
    assert learnable.residual(task, problem) < 1e-10
    # ... of F itself: f_b in the variable z, differentiated.
    _, potential = activation_pair(activation)
    u = np.asarray(square_root(problem.w + 1e-12 * np.eye(6)))
    b = problem.splits[0].inputs[3]

    def f(z):
        return z @ z / 2 - potential(u @ z + b).sum()

    z = jnp.asarray(u @ problem.splits[0].targets[3])
    assert jnp.abs(jax.grad(f)(z)).max() < 1e-5
    nearby = np.asarray(z) + 1e-2 * np.random.default_rng(0).normal(size=(100, 6))
    assert (jax.vmap(f)(nearby) > f(z)).all()


@double
def test_a_point_beside_the_minimiser_has_a_residual():
    task = learnable.Task("tanh", 30.0, 6)
    problem = learnable.draw(task, (20,), seed=1)
    (own,) = problem.splits
    beside = own._replace(targets=own.targets + 1e-3)
    assert learnable.residual(task, problem._replace(splits=(beside,))) > 1e-5


@double
def test_w_has_the_condition_number_that_is_asked_for():
    task = learnable.Task("relu", 50.0, 8)
    w = learnable.draw(task, (1,), seed=0).w
    hessian = np.linalg.eigvalsh(np.eye(8) - w)
    assert hessian[-1] / hessian[0] == pytest.approx(50)
    assert np.array_equal(w, w.T)


def test_relu_solves_the_quadratic_programme():
    """The conditions of min_{x ≥ 0} ½ x·(I - W) x - b·x, in double precision anyhow."""
    problem = learnable.draw(learnable.Task("relu", 20.0, 5), (30,), seed=2)
    ((b, x),) = problem.splits
    slope = x - x @ problem.w - b
    assert (x >= 0).all()
    assert (slope > -1e-10).all()
    assert np.abs(x * slope).max() < 1e-10
    assert 0.1 < (x > 0).mean() < 0.9


@double
def test_one_weight_for_all_layers_is_as_many_equal_ones():
    task = learnable.Task("tanh", 10.0, 4)
    problem = learnable.draw(task, (3,), seed=0)
    ((inputs, _),) = problem.splits
    tied = task.propagate(GradientDescent(), problem.w, inputs, 3)
    untied = task.propagate(GradientDescent(), np.stack([problem.w] * 3), inputs, 3)
    assert np.array_equal(tied, untied)
    x = inputs
    for _ in range(3):
        x = np.tanh(x @ problem.w + inputs)
    np.testing.assert_allclose(tied, x, rtol=1e-12)


TASK = learnable.Task("tanh", 10.0, 4)


@pytest.fixture(scope="module")
def split():
    """x = tanh(W b + b) of one layer: what a network of depth 1 can be exactly."""
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=(64, 4)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(4, 4)) / 3, jnp.float32)
    targets = TASK.propagate(GradientDescent(), w, inputs, 1)
    return learnable.Split(inputs, targets)


def run(split, seeds, rates, scales=None, depth=1):
    program = learnable.make_program(
        TASK, GradientDescent(), depth, False, steps=60, batch_size=16
    )
    members = jax.tree.map(lambda x: jnp.stack([x] * len(seeds)), split)
    scales = jnp.float32(scales or [1] * len(seeds))
    return program(members, members, jnp.array(seeds), jnp.float32(rates), scales)


def test_it_learns_and_members_differ_in_seed_and_rate(split):
    found = run(split, [0, 0, 1], [0.1, 1e-6, 0.1])
    assert found.error[0] < 0.01
    assert found.error[1] > 10 * found.error[0]
    assert found.error[0] != found.error[2]
    assert found.finite.all()


def test_the_initial_weights_have_the_scale_that_is_asked_for(split):
    """At a rate of 0 the error is that of W_0 itself; of W = 0, that of tanh(b)."""
    found = run(split, [0, 0, 0], [1e-30] * 3, scales=[1e-30, 1, 0.5])
    w = learnable.initial_weights(jax.random.key(0), 1, 4, tied=False)
    for error, scale in zip(found.error, (0, 1, 0.5), strict=True):
        output = jnp.tanh(split.inputs @ (scale * w[0]) + split.inputs)
        expected = jnp.mean((output - split.targets) ** 2)
        expected /= learnable.scale(split.targets)
        assert float(error) == pytest.approx(float(expected), rel=1e-4)


def test_a_member_does_not_depend_on_the_others(split):
    both = run(split, [3, 5], [0.1, 0.1])
    alone = run(split, [5], [0.1])
    np.testing.assert_allclose(both.error[1], alone.error[0], rtol=1e-4)


def test_divergence_has_the_worst_error(split):
    found = run(split, [0], [1e38], depth=2)
    assert found.error[0] == learnable.WORST or found.error[0] > 1
    assert learnable.capped(jnp.float32(jnp.nan)) == learnable.WORST
    assert learnable.capped(jnp.float32(jnp.inf)) == learnable.WORST
    assert learnable.capped(jnp.float32(2)) == 2


def test_tied_weights_are_one_matrix():
    draw = learnable.initial_weights
    assert draw(jax.random.key(0), 3, 4, tied=True).shape == (4, 4)
    untied = draw(jax.random.key(0), 300, 16, tied=False)
    assert untied.shape == (300, 16, 16)
    assert float(untied.std()) == pytest.approx(1 / 4, rel=0.02)


def test_the_error_of_the_best_constant_is_1(split):
    constant = split.targets.mean(0)
    error = jnp.mean((split.targets - constant[None]) ** 2)
    assert float(error / learnable.scale(split.targets)) == pytest.approx(1)
