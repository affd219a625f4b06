import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.objectives import activation_pair, square_root
from optnet_jax.recurrences import GradientDescent
from optnet_jax.studies.hypothesis import task as tasks

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("constant", [False, True])
def test_the_target_is_the_minimiser(activation, constant):
    task = tasks.Task(activation, 30.0, 6, constant)
    problem = tasks.draw(task, (20, 5), seed=1)
    for inputs, targets in zip(problem.inputs, problem.targets, strict=True):
        assert tasks.residual(task, problem.w, inputs, targets) < 1e-10
    # ... of F itself: f_b in the variable z, differentiated.
    _, potential = activation_pair(activation)
    u = np.asarray(square_root(problem.w + 1e-12 * np.eye(6)))
    b = np.zeros(6) if constant else problem.inputs[0][3]

    def f(z):
        return z @ z / 2 - potential(u @ z + b).sum()

    z = jnp.asarray(u @ problem.targets[0][3])
    assert jnp.abs(jax.grad(f)(z)).max() < 1e-5
    nearby = np.asarray(z) + 1e-2 * np.random.default_rng(0).normal(size=(100, 6))
    assert (jax.vmap(f)(nearby) > f(z)).all()


def test_a_point_beside_the_minimiser_has_a_residual():
    task = tasks.Task("tanh", 30.0, 6)
    problem = tasks.draw(task, (20,), seed=1)
    (inputs,), (targets,) = problem.inputs, problem.targets
    assert tasks.residual(task, problem.w, inputs, targets + 1e-3) > 1e-5


def test_w_has_the_condition_number_that_is_asked_for():
    task = tasks.Task("relu", 50.0, 8)
    w = tasks.draw(task, (1,), seed=0).w
    hessian = np.linalg.eigvalsh(np.eye(8) - w)
    assert hessian[-1] / hessian[0] == pytest.approx(50)
    assert np.array_equal(w, w.T)


def test_targets_depend_on_the_input_only_where_it_is_the_linear_term():
    spreads = [
        tasks.draw(tasks.Task("sigmoid", 10.0, 4, constant), (50,), 0).targets[0].std(0)
        for constant in (False, True)
    ]
    assert spreads[0].min() > 0.05
    assert spreads[1].max() < 1e-12


def test_relu_solves_the_quadratic_programme():
    """The optimality conditions of min_{x ≥ 0} ½ x·(I - W) x - b·x."""
    problem = tasks.draw(tasks.Task("relu", 20.0, 5), (30,), seed=2)
    (b,), (x,) = problem.inputs, problem.targets
    slope = x - x @ problem.w - b
    assert (x >= 0).all()
    assert (slope > -1e-10).all()
    assert np.abs(x * slope).max() < 1e-10
    assert 0.1 < (x > 0).mean() < 0.9


def test_one_weight_for_all_layers_is_as_many_equal_ones():
    task = tasks.Task("tanh", 10.0, 4)
    problem = tasks.draw(task, (3,), seed=0)
    (inputs,) = problem.inputs
    tied = task.propagate(GradientDescent(), problem.w, inputs, 3)
    untied = task.propagate(GradientDescent(), np.stack([problem.w] * 3), inputs, 3)
    assert np.array_equal(tied, untied)
    x = inputs
    for _ in range(3):
        x = np.tanh(x @ problem.w + inputs)
    np.testing.assert_allclose(tied, x, rtol=1e-12)


@pytest.mark.parametrize(
    "task", [tasks.Task("relu", 1.0, 4), tasks.Task("swish", 10.0, 4)]
)
def test_a_task_without_a_condition_number_is_refused(task):
    with pytest.raises(InputError, match="κ > 1 and slopes"):
        tasks.draw(task, (3,), 0)


def test_single_precision_is_refused():
    with jax.enable_x64(False), pytest.raises(InputError, match="double precision"):
        tasks.draw(tasks.Task("relu", 10.0, 4), (3,), 0)
