"""Training against plain loops, and the gradient in slices against the whole one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optnet_jax.studies.fit import SLICE, fit, loss_and_gradient, members, on_pairs


def loss(params, inputs, targets):
    outputs = jnp.tanh(inputs @ params["first"]) @ params["second"]
    return jnp.mean((outputs - targets) ** 2)


def make(samples):
    keys = jax.random.split(jax.random.key(samples), 4)
    first, second = jax.random.normal(keys[0], (5, 4)), jax.random.normal(keys[1], (4,))
    inputs = jax.random.normal(keys[2], (samples, 5))
    targets = jax.random.normal(keys[3], (samples,))
    return {"first": first, "second": second}, inputs, targets


@pytest.mark.parametrize("samples", [7, SLICE, SLICE + 1, 2 * SLICE, 6 * SLICE])
def test_slices_have_the_gradient_of_the_whole(samples):
    arguments = make(samples)
    sliced = jax.jit(lambda *a: loss_and_gradient(loss, *a))(*arguments)
    whole = jax.value_and_grad(loss)(*arguments)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        sliced,
        whole,
    )


def lowered(samples, platform):
    traced = jax.jit(lambda *a: loss_and_gradient(loss, *a)).trace(*make(samples))
    return traced.lower(lowering_platforms=(platform,)).as_text()


def test_only_a_cpu_slices_and_only_multiples():
    shape = f"tensor<{SLICE}x5xf32>"
    assert shape in lowered(2 * SLICE, "cpu")
    assert shape not in lowered(2 * SLICE, "cuda")
    assert shape not in lowered(2 * SLICE + 1, "cpu")


def train(seed, rate):
    """Fit x ↦ w x to 2 x, from a start drawn by the seed."""
    inputs = jnp.arange(1.0, 7.0)[:, None] / 6
    return fit(
        on_pairs(lambda w, x: w * x, (inputs, 2 * inputs), 2),
        jax.random.normal(jax.random.key(seed), (1, 1)),
        optax.sgd(rate),
        (1, 4),
        lambda w, step: {"w": w[0, 0], **step._asdict()},
    )


def by_hand(seed, rate):
    w = float(jax.random.normal(jax.random.key(seed), (1, 1))[0, 0])
    ws, losses, norms = [], [], []
    for batch in ([1, 2], [3, 4], [5, 6], [1, 2]):
        x = np.array(batch) / 6
        gradient = np.mean(2 * (w * x - 2 * x) * x)
        losses.append(np.mean((w * x - 2 * x) ** 2))
        norms.append(abs(gradient))
        w -= rate * gradient
        ws.append(w)
    return [[values[0], values[3]] for values in (ws, losses, norms)]


@pytest.mark.parametrize("at_once", [True, False])
def test_members_are_plain_loops_over_consecutive_batches(at_once):
    seeds, rates = [0, 0, 1], [0.1, 1.0, 0.1]
    params, found = members(train, at_once)(jnp.array(seeds), jnp.array(rates))
    expected = [by_hand(*member) for member in zip(seeds, rates, strict=True)]
    names = "w", "loss", "gradient_norm"
    np.testing.assert_allclose(
        np.stack([found[name] for name in names], 1), expected, rtol=2e-5
    )
    np.testing.assert_array_equal(params[:, 0, 0], found["w"][:, -1])
