"""The gradient in slices against the gradient of the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.studies.table2.gradient import SLICE, gradient


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
    sliced = jax.jit(lambda *a: gradient(loss, *a))(*arguments)
    whole = jax.grad(loss)(*arguments)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        sliced,
        whole,
    )


def lowered(samples, platform):
    traced = jax.jit(lambda *a: gradient(loss, *a)).trace(*make(samples))
    return traced.lower(lowering_platforms=(platform,)).as_text()


def test_only_a_cpu_slices_and_only_multiples():
    shape = f"tensor<{SLICE}x5xf32>"
    assert shape in lowered(2 * SLICE, "cpu")
    assert shape not in lowered(2 * SLICE, "cuda")
    assert shape not in lowered(2 * SLICE + 1, "cpu")
