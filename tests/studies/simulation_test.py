"""One cell against a loop of plain Python that shares nothing but the random draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optnet_jax.recurrences import (
    ADMM,
    GradientDescent,
    Nesterov,
    NesterovSum,
    h_matrix,
    iterate,
)
from optnet_jax.recurrences import momentum as nesterov_momentum
from optnet_jax.structures import FullyConnected, Propagation
from optnet_jax.studies.simulation import (
    Extrapolated,
    draw,
    initial_parameters,
    readings,
    simulate,
)

DIM, DEPTH, RATE, BETA = 8, 3, 1.0, 0.3
SAMPLES, BATCH, CHECKPOINTS = 40, 10, (3, 7)


def run(network, seed, checkpoints=CHECKPOINTS):
    one = functools.partial(
        simulate,
        network,
        samples=SAMPLES,
        dim=DIM,
        batch_size=BATCH,
        optimizer=optax.sgd(RATE),
        checkpoints=checkpoints,
    )
    return jax.jit(one)(seed)


def make(recurrence, separate_paths=False):
    return Propagation(
        recurrence, FullyConnected(), DEPTH, separate_paths=separate_paths
    )


# The five structures as the paper prints them; weights: one list of layers a path.


def phi(w, x):
    return jax.nn.sigmoid(x @ w)


def gd(weights, x):
    for w in weights[0]:
        x = phi(w, x)
    return x


def hb(weights, x):
    previous = x
    for w in weights[0]:
        x, previous = phi(w, x) + BETA * (x - previous), x
    return x


def agd(weights, x):
    beta, previous = nesterov_momentum(DEPTH), x
    for k, w in enumerate(weights[0]):
        x, previous = phi(w, x + beta[k] * (x - previous)), x
    return x


def agd2(weights, x):
    h, xs = h_matrix(DEPTH), [x]
    for k in range(DEPTH):
        total = sum(
            h[k, j] * (xs[j] - phi(w, xs[j])) for j, w in enumerate(weights[0][: k + 1])
        )
        xs.append(xs[-1] - total)
    return xs[-1]


def admm(weights, x, mean):
    prime, first, second = x, weights[0], weights[-1]
    primes, plains = [], []
    for v, w in zip(first, second, strict=True):
        total = sum(p - q for p, q in zip(primes, plains, strict=True))
        prime = (phi(v, prime) + x - total) / 2
        x = (phi(w, x) + prime + total) / 2
        primes.append(prime)
        plains.append(x)
    return (x + prime) / 2 if mean else x


def gd_readout(weights, x):
    beta = nesterov_momentum(DEPTH + 1)[DEPTH]
    before = gd([weights[0][:-1]], x)
    after = phi(weights[0][-1], before)
    return after + beta * (after - before)


ORACLES = {
    "admm_shared": functools.partial(admm, mean=False),
    "admm_separate": functools.partial(admm, mean=True),
    "gd": gd,
    "hb": hb,
    "agd": agd,
    "agd2": agd2,
    "gd_readout": gd_readout,
    # (12) and (13) share their hidden sequence; only the read-out differs.
    "agd_readout": agd2,
}


def oracle(function, params, seed):
    """Train in loops; return the MSE at the checkpoints and the last outputs."""
    layers = params["layers"]
    paths = [p for p in ("transform_prime", "transform") if p in layers]
    weights = [[jnp.asarray(w) for w in layers[p]["linear"]["kernel"]] for p in paths]
    inputs, targets = draw(seed, SAMPLES, DIM)

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradient(weights, x, f):
        return ((function(weights, x) - f) ** 2).sum() / f.size

    size, found = BATCH, []
    batches = [
        (inputs[i : i + size], targets[i : i + size]) for i in range(0, SAMPLES, size)
    ]
    for step in range(CHECKPOINTS[-1]):
        _, gradient = loss_and_gradient(weights, *batches[step % len(batches)])
        weights = [
            [w - RATE * g for w, g in zip(ws, gs, strict=True)]
            for ws, gs in zip(weights, gradient, strict=True)
        ]
        if step + 1 in CHECKPOINTS:
            losses = [loss_and_gradient(weights, x, f)[0] for x, f in batches]
            found.append(float(np.mean(losses)))
    return found, np.asarray(function(weights, inputs)), np.asarray(targets)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ORACLES)
def test_a_cell_is_the_plain_loop(name):
    reading = readings(BETA)[name]
    network = make(reading.recurrence, reading.separate_paths)
    record = run(network, 3)
    params = initial_parameters(network, 3, DIM)
    mse, outputs, targets = oracle(ORACLES[name], params, 3)
    # Everything is float64 but the weights, so updates are rounded differently.
    np.testing.assert_allclose(record.mse, mse, rtol=0, atol=1e-8)
    assert mse[1] < mse[0] - 1e-3  # it does train
    np.testing.assert_allclose(record.output_power[-1], (outputs**2).mean(), atol=1e-7)
    spread = outputs.var(axis=0).mean()
    np.testing.assert_allclose(record.output_spread[-1], spread, atol=1e-7)
    np.testing.assert_allclose(record.target_power, (targets**2).mean(), atol=1e-7)
    best = ((targets - targets.mean(axis=0)) ** 2).mean()
    np.testing.assert_allclose(record.constant_mse, best, atol=1e-7)


def test_a_cell_is_the_plain_loop_in_the_precision_of_the_study():
    network = make(NesterovSum())
    record = run(network, 3)
    mse, _, _ = oracle(agd2, initial_parameters(network, 3, DIM), 3)
    np.testing.assert_allclose(record.mse, mse, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("float64")
def test_checkpoints_do_not_change_the_training():
    network = make(GradientDescent())
    few = run(network, 3).mse
    many = run(network, 3, (1, 3, 5, 7)).mse
    np.testing.assert_allclose(few, many[jnp.array([1, 3])], rtol=1e-6)


def test_seeds_draw_anew_and_structures_of_one_seed_share_the_draw():
    shared = (
        initial_parameters(make(method), 0, DIM)
        for method in (GradientDescent(), Nesterov())
    )
    jax.tree.map(np.testing.assert_array_equal, *shared)
    assert not np.allclose(draw(0, 4, DIM)[0], draw(1, 4, DIM)[0])
    inputs, targets = draw(0, 400, DIM)
    # Independent: the sample correlation is of the size of its deviation, 1/√3200.
    assert abs(float(jnp.mean(inputs * targets))) < 4 / np.sqrt(400 * DIM)


X0 = jnp.array([0.3, -1.2, 2.0])
WEIGHTS = np.random.default_rng(0).normal(size=(7, 3, 3)).astype(np.float32)


def transform(x, w):
    return jax.nn.sigmoid(w @ x)


def trajectory(recurrence):
    return iterate(recurrence, transform, X0, 7, weights=WEIGHTS, trajectory=True)


@pytest.mark.parametrize("recurrence", [GradientDescent(), Nesterov(), ADMM()])
def test_it_extrapolates_the_methods_own_sequence(recurrence):
    xs = trajectory(recurrence)
    betas = nesterov_momentum(8)[1:, None]
    ys = xs[1:] + betas.astype(np.float32) * (xs[1:] - xs[:-1])
    np.testing.assert_allclose(trajectory(Extrapolated(recurrence))[1:], ys, atol=1e-6)


def test_agd_so_read_out_is_agd2_at_every_depth():
    np.testing.assert_allclose(
        trajectory(Extrapolated(Nesterov())), trajectory(NesterovSum()), atol=1e-6
    )
