"""x* and its derivatives against unrolled layers, SciPy and the implicit theorem."""

import dataclasses
import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import optimize

from optnet_jax.errors import InputError
from optnet_jax.ops.normalization import BatchNorm
from optnet_jax.recurrences import GradientDescent, HistorySum, heavy_ball, iterate
from optnet_jax.recurrences.methods import find, minimisers
from optnet_jax.structures import Equilibrium, SymmetricMap

MU = 0.02
GD = GradientDescent()


@dataclasses.dataclass(frozen=True)
class Averaged:
    """A user's recurrence: half of T, with a count in its state."""

    def coefficients(self, depth):
        return {"share": np.full(depth, 0.5)}

    def init(self, x0):
        return x0, jnp.zeros((), int)

    def step(self, transform, state, c):
        x, k = state
        return x + c["share"] * (transform(x) - x), k + 1

    def output(self, state):
        return state[0]


RECURRENCES = {
    **{
        key: find(key).recurrence(MU)
        for key in ("hb_tuned", "agd2", "admm", "anderson")
    },
    "user's": Averaged(),
}


def _layer(x, w, b):
    return jnp.tanh(w(x) + b)


class Network(nn.Module):
    """B ↦ x* = tanh(W x* + b), or the 2,000th of its layers."""

    recurrence: object = GD
    tolerance: float = 1e-7
    unrolled: bool = False

    @nn.compact
    def __call__(self, b):
        w, x0 = SymmetricMap(MU)(b), jnp.zeros_like(b)
        if self.unrolled:
            return iterate(GD, lambda x: _layer(x, w, b), x0, 2000)
        return Equilibrium(self.recurrence, _layer, self.tolerance, 4000)(x0, w, b)


B = np.random.default_rng(0).normal(size=(3, 5))
KERNEL = {"params": {"SymmetricMap_0": {"kernel": np.eye(5) + B.T @ B[:, ::-1] / 4}}}


def _arguments(dtype=jnp.float32):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), (KERNEL, B))


def _value_and_gradients(network, dtype=jnp.float32):
    def loss(variables, b):
        x = network.apply(variables, b)
        return (x**3).sum(), x

    (_, x), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
        *_arguments(dtype)
    )
    return jax.tree.map(lambda a: np.asarray(a, float), (x, gradients))


def _assert_close(found, expected, tolerance):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.fixture(scope="module")
def unrolled():
    return _value_and_gradients(Network(unrolled=True))


@pytest.mark.parametrize("name", RECURRENCES)
def test_values_and_gradients_are_those_of_2000_layers(name, unrolled):
    found = _value_and_gradients(Network(RECURRENCES[name]))
    _assert_close(found, unrolled, 1e-5)


def test_bfloat16_is_as_near_as_it_can_be(unrolled):
    found = _value_and_gradients(Network(tolerance=1e-5), jnp.bfloat16)
    _assert_close(found[0], unrolled[0], 0.1)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(found[1]))


def test_values_and_gradients_are_those_of_an_independent_solver(float64):
    """SciPy finds x*, and NumPy solves (I - Jᵀ) u = g for dL/db = Φ' u."""
    x, (_, gradient) = _value_and_gradients(
        Network(RECURRENCES["hb_tuned"], 1e-12), jnp.float64
    )
    a = np.asarray(KERNEL["params"]["SymmetricMap_0"]["kernel"])
    w = (1 - MU) * a @ a.T / np.linalg.norm(a, 2) ** 2
    for b, found, slope in zip(B, x, gradient, strict=True):
        root = optimize.root(
            lambda x, b=b: np.tanh(w @ x + b) - x, np.zeros(5), tol=1e-13
        )
        np.testing.assert_allclose(found, root.x, atol=1e-9)
        phi = 1 - root.x**2
        u = np.linalg.solve(np.eye(5) - w * phi, 3 * root.x**2)
        np.testing.assert_allclose(slope, phi * u, atol=1e-8)


def test_derivatives_of_both_modes_and_the_second_ones(float64):
    variables, b = _arguments(jnp.float64)
    network, direction = Network(RECURRENCES["hb_tuned"], 1e-13), jnp.cos(b)

    def gradient(b):
        return jax.grad(lambda b: (network.apply(variables, b) ** 3).sum())(b)

    product = jax.jit(lambda b: jax.jvp(gradient, (b,), (direction,)))
    h = 1e-5
    before, after = (product(b + step * direction)[0] for step in (-h, h))
    expected = (after - before) / (2 * h)
    np.testing.assert_allclose(product(b)[1], expected, rtol=1e-6, atol=1e-6)


def test_vmap_and_sharding_change_nothing():
    network = Network(RECURRENCES["hb_tuned"])
    variables, b = _arguments()
    b = jnp.concatenate([b, -b, b[:2] / 2])
    gradient = jax.grad(lambda b: (network.apply(variables, b) ** 3).sum())
    expected = jax.jit(jax.vmap(gradient))(b)
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    sharded = jax.device_put(b, NamedSharding(mesh, PartitionSpec("batch")))
    found = jax.jit(gradient)(sharded)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.sharding.is_equivalent_to(sharded.sharding, 2)
    spec = PartitionSpec("batch")
    manual = jax.shard_map(gradient, mesh=mesh, in_specs=spec, out_specs=spec)
    np.testing.assert_allclose(jax.jit(manual)(b), expected, atol=1e-5)


class Inner(nn.Module):
    """x, b ↦ BN(tanh(Dense(x) + b)): a module that holds modules."""

    train: bool = False

    @nn.compact
    def __call__(self, x, b):
        y = nn.Dense(x.shape[-1], kernel_init=nn.initializers.orthogonal(0.5))(x)
        return BatchNorm(not self.train)(jnp.tanh(y + b) / 2)


def test_a_module_of_modules_is_trained_and_its_statistics_move_once():
    b = jnp.asarray(B, jnp.float32)
    network = Equilibrium(GD, Inner(), 1e-6)
    variables = jax.jit(network.init)(jax.random.key(0), b, b)
    inner = {name: tree["transform"] for name, tree in variables.items()}

    def residual(variables, x):
        return x - Inner().apply(variables, x, b)

    x = network.apply(variables, b, b)
    np.testing.assert_allclose(residual(inner, x), np.zeros_like(x), atol=1e-6)
    slopes = jax.jit(jax.grad(lambda v: (network.apply(v, b, b) ** 2).sum()))(variables)
    assert min(np.abs(g).max() for g in jax.tree.leaves(slopes["params"])) > 0

    training = Equilibrium(GD, Inner(True), 1e-4)
    x, updated = training.apply(variables, b, b, mutable=["batch_stats"])
    _, once = Inner(True).apply(inner, x, b, mutable=["batch_stats"])
    expected = once["batch_stats"]
    found = updated["batch_stats"]["transform"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5), found, expected)


class Sowing(nn.Module):
    """x, b ↦ tanh(x / 2 + b), which sows its penalty and counts its calls."""

    @nn.compact
    def __call__(self, x, b):
        y = jnp.tanh(x / 2 + b)
        self.sow("losses", "penalty", (y**3).sum())
        calls = self.variable("calls", "count", jnp.zeros, ())
        if self.is_mutable_collection("calls"):
            calls.value += 1
        return y


def test_what_t_sows_is_that_of_one_evaluation_at_the_limit():
    network, b = Equilibrium(heavy_ball(0.1), Sowing(), 1e-7), jnp.asarray(B)
    first = network.init(jax.random.key(0), b, b)
    expected = Sowing().init(jax.random.key(0), b, b)
    assert first == {name: {"transform": tree} for name, tree in expected.items()}

    def penalty(b):
        mutable = ["losses", "calls"]  # neither of them exists before
        x, found = network.apply({}, 0 * b, b, mutable=mutable)
        assert found["calls"]["transform"] == {"count": 1}
        (sown,) = found["losses"]["transform"]["penalty"]
        return sown, x

    (found, x), slope = jax.value_and_grad(penalty, has_aux=True)(b)
    np.testing.assert_allclose(found, (x**3).sum(), rtol=1e-5)
    expected = jax.grad(lambda b: (network.apply(first, b, b) ** 3).sum())(b)
    np.testing.assert_allclose(slope, expected, rtol=1e-5)
    _, found = network.apply(first, b, b, capture_intermediates=True)
    (captured,) = found["intermediates"]["transform"]["__call__"]
    np.testing.assert_allclose(captured, x, rtol=1e-5)


def _affine(x, slope):
    return slope * x + 1


@functools.partial(jax.jit, static_argnums=0)
def _apply(network, x0, slope):
    return network.apply({}, x0, slope, mutable=["intermediates"])


def _solved(x0, slope, recurrence=GD, **fields):
    """x* of x ↦ slope x + 1, and what was sown."""
    network = Equilibrium(recurrence, _affine, **fields)
    x, sown = _apply(network, x0, slope)
    sown = sown["intermediates"]
    return x, sown["steps"][0], sown["residual"][0]


def test_a_sample_that_has_converged_stays():
    slopes = jnp.array([[0.1], [0.9]])
    x, steps, residual = _solved(jnp.zeros((2, 1)), slopes)
    alone = [_solved(jnp.zeros((1, 1)), slope[None]) for slope in slopes]
    np.testing.assert_array_equal(x, np.concatenate([a[0] for a in alone]))
    np.testing.assert_array_equal(steps, np.concatenate([a[1] for a in alone]))
    assert steps[0] < 10 < steps[1]
    assert residual.max() <= 1e-5
    np.testing.assert_allclose(x[:, 0], 1 / (1 - slopes[:, 0]), rtol=2e-4)


@pytest.mark.parametrize("name", ["gd", "hb", "admm"])
def test_samples_that_t_mixes_are_found_together(name):
    """Nodes of a path, the farther of which stand still until the others reach them."""
    path = 0.4 * (np.eye(5, k=1) + np.eye(5, k=-1))
    inverse = np.linalg.inv(np.eye(5) - path)
    network = Equilibrium(find(name).recurrence(), lambda x, b: path @ x + b, 1e-6)

    def solve(b):
        return network.apply({}, jnp.zeros((5, 1)), b)[:, 0]

    for b in (jnp.ones((5, 1)), jnp.zeros((5, 1)).at[0].set(1)):
        np.testing.assert_allclose(solve(b), (inverse @ b)[:, 0], rtol=1e-4)
        slope = jax.grad(lambda b: solve(b)[0])(b)
        np.testing.assert_allclose(slope[:, 0], inverse[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("nodes", "slope", "steps", "said"),
    [
        (60, 0.48, 1000, ""),
        (20, 0.45, 40, "raise max_steps"),
    ],
)
def test_samples_that_t_mixes_settle_together(caplog, nodes, slope, steps, said):
    """Fresh ones beside those of an earlier step would never be an iterate."""
    path = slope * (np.eye(nodes, k=1) + np.eye(nodes, k=-1))
    b = np.eye(nodes)[:, :1]
    network = Equilibrium(GD, lambda x: path @ x + b, 1e-6, max_steps=steps)
    x, sown = network.apply({}, jnp.zeros((nodes, 1)), mutable=["intermediates"])
    jax.effects_barrier()
    assert said in caplog.text
    assert bool(caplog.text) == bool(said)
    if not said:
        assert sown["intermediates"]["steps"][0].max() < steps
        exact = np.linalg.solve(np.eye(nodes) - path, b)
        np.testing.assert_allclose(x, exact, rtol=1e-3, atol=1e-5)


def test_a_warm_start_takes_no_step_and_has_no_gradient():
    x, steps, _ = _solved(jnp.zeros(3), 0.5)
    assert steps.shape == ()
    assert steps > 10
    again, steps, _ = _solved(x, 0.5)
    assert steps == 0
    np.testing.assert_array_equal(again, x)
    slope = jax.jit(jax.grad(lambda x0: _solved(x0, 0.5)[0].sum()))(x)
    np.testing.assert_array_equal(slope, np.zeros(3))


def test_what_is_not_found_is_said_once_with_its_number_and_cause(caplog):
    network = Equilibrium(GD, _affine, max_steps=40)
    run = jax.jit(lambda slopes: network.apply({}, jnp.ones((3, 1)), slopes))
    expected = [
        ([0.5, -1.1, 0.5], "1 came no nearer: T is no contraction"),
        ([0.5, 1e30, -1e30], "2 became NaN or infinite"),
        ([0.5, 0.9, -1.1], "1 came no nearer"),
        ([0.5, 0.5, 0.9], None),
        ([0.5, 0.5, 0.5], None),
    ]
    for slopes, says in expected:
        caplog.clear()
        for _ in range(2):
            jax.block_until_ready(run(jnp.array(slopes)[:, None]))
            jax.effects_barrier()
        if says is None:
            assert not caplog.messages
        else:
            (line,) = caplog.messages
            assert line.startswith("x* not found: of 3 sample(s) ")
            assert says in line


def test_a_sample_whose_t_is_nan_is_nan_and_alone():
    network = Equilibrium(heavy_ball(0.1), lambda x, b: jnp.tanh(x / 2 + b))
    b = jnp.asarray(B, jnp.float32)

    def loss(b):
        x = network.apply({}, jnp.zeros_like(b), b)
        return x[::2].sum(), x

    solve = jax.jit(jax.grad(loss, has_aux=True))
    # T(x_0) is NaN where x_0 is not.
    (gradient, x), expected = solve(b.at[1, 0].set(jnp.nan)), solve(b)
    assert np.isnan(x[1]).all()
    np.testing.assert_array_equal(x[::2], expected[1][::2])
    np.testing.assert_array_equal(gradient[::2], expected[0][::2])


def test_it_is_exported_for_any_number_of_samples():
    network = Equilibrium(GD, lambda x, b: x / 2 + b)
    b = jnp.ones((3, 2))
    function = jax.jit(lambda b: network.apply({}, jnp.zeros_like(b), b))
    (count,) = jax.export.symbolic_shape("n")
    shape = jax.ShapeDtypeStruct((count, 2), b.dtype)
    exported = jax.export.export(function, platforms=("cpu", "tpu"))(shape)
    np.testing.assert_array_equal(exported.call(b), function(b))


def test_a_gradient_that_is_not_found_is_said(caplog):
    x0 = jnp.full((1, 2), 1 / 0.02)
    start = _solved(x0, 0.98, max_steps=3)[0]  # as good as x*
    with caplog.at_level(logging.ERROR):
        jax.grad(lambda s: _solved(start, s, max_steps=3)[0].sum())(0.98)
        jax.effects_barrier()
    assert "a derivative of x* not found: of 1 sample(s) 1" in caplog.text


@pytest.mark.parametrize("name", ["resnet", "two_path"])
def test_structures_that_have_no_such_limit_say_so(name, caplog):
    _solved(jnp.ones((2, 2)), 0.5, find(name).recurrence(), max_steps=100)
    jax.effects_barrier()
    assert "of 2 sample(s) 2" in caplog.text


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"recurrence": HistorySum()}, "HistorySum takes the whole history"),
        ({"tolerance": 0.0}, "tolerance=0.0 must be above 0 and below 1"),
        ({"max_steps": 0}, "max_steps=0 must be at least 1"),
    ],
)
def test_what_cannot_be_solved_is_refused(fields, says):
    with pytest.raises(InputError, match=says):
        Equilibrium(**{"recurrence": GD, "transform": jnp.tanh, **fields})


def test_starts_and_transforms_of_other_shapes_are_refused():
    with pytest.raises(InputError, match="one start, no pair"):
        _solved((jnp.ones(2), jnp.ones(2)), 0.5, find("admm").recurrence())
    with pytest.raises(InputError, match="must preserve the shape"):
        Equilibrium(GD, lambda x: x[:1]).apply({}, jnp.ones(3))


def test_every_minimiser_of_the_list_agrees():
    for method in minimisers():
        x, *_ = _solved(jnp.zeros((1, 2)), 0.5, method.recurrence(0.5), tolerance=1e-6)
        np.testing.assert_allclose(x, np.full((1, 2), 2.0), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 0), (0, 3)])
def test_nothing_is_solved_by_nothing(shape):
    assert _solved(jnp.zeros(shape), 0.5, heavy_ball(0.1))[0].shape == shape


def test_whole_numbers_are_solved_as_real_ones():
    x, *_ = _solved(jnp.zeros(2, int), 0.5, heavy_ball(0.1))
    np.testing.assert_allclose(x, [2, 2], rtol=1e-4)


@pytest.mark.parametrize("dtypes", [("bfloat16", "float32"), ("float16", "float32")])
def test_a_start_of_less_precision_is_what_can_be_told(dtypes, caplog):
    x0, b = jnp.zeros((2, 4), dtypes[0]), jnp.ones((2, 4), dtypes[1])
    network = Equilibrium(heavy_ball(0.1), lambda x, b: x / 2 + b)
    x, found = network.apply({}, x0, b, mutable="intermediates")
    assert x.dtype == x0.dtype
    assert max(found["intermediates"]["steps"][0]) < 50
    assert not caplog.records
    np.testing.assert_allclose(np.asarray(x, float), 2, rtol=0.05)


@pytest.mark.parametrize("size", [1e-15, 1e-20, 1e-30, 1e20, 1e30, 1e37])
def test_small_and_large_states_and_cotangents_are_solved(size):
    b = jnp.asarray([[1.0, 2.0, 3.0]])
    network = Equilibrium(GradientDescent(), lambda x, b: 0.9 * x + b)
    x = network.apply({}, 0 * b, size * b)
    np.testing.assert_allclose(x, 10 * size * b, rtol=1e-3)
    found = jax.grad(lambda b: jnp.sum(size * network.apply({}, 0 * b, b)))(b)
    np.testing.assert_allclose(found, jnp.full_like(b, 10 * size), rtol=1e-3)
