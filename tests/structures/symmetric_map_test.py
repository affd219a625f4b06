"""W as a matrix of NumPy: symmetric, its spectrum within the bound and at it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from optnet_jax.errors import InputError
from optnet_jax.structures import SymmetricMap

CASES = [((), (6,)), ((3, 2), (4, 5, 2)), ((4,), (4, 2))]


def _matrix(module, variables, shape):
    """W by columns, from what it does to the unit arrays."""
    units = jnp.eye(np.prod(shape)).reshape(-1, *shape)
    w = jax.jit(lambda variables: module.apply(variables, units[0])(units))
    return np.asarray(w(variables)).reshape(len(units), -1)


@pytest.mark.parametrize(("kernel_size", "shape"), CASES)
def test_the_bound_is_attained_and_exact(kernel_size, shape, float64):
    module = SymmetricMap(0.03, kernel_size)
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros(shape))
    w = _matrix(module, variables, shape)
    np.testing.assert_allclose(w, w.T, atol=1e-14)
    eigenvalues = np.linalg.eigvalsh(w)
    assert eigenvalues[-1] == pytest.approx(1 - 0.03, abs=1e-13)
    assert eigenvalues[0] > -1e-13
    # The scale of A says nothing.
    larger = jax.tree.map(lambda a: 1e3 * a, variables)
    np.testing.assert_allclose(_matrix(module, larger, shape), w, atol=1e-13)


@pytest.mark.parametrize(("kernel_size", "shape"), CASES[1:2])
def test_the_norm_has_its_gradient(kernel_size, shape, float64):
    module = SymmetricMap(0.1, kernel_size)
    x = jax.random.normal(jax.random.key(1), shape)
    variables = module.init(jax.random.key(0), x)
    product = jax.jit(lambda v: module.apply(v, x)(x))
    check_grads(product, (variables,), 1, modes=["rev"])


def test_single_precision_keeps_the_bound():
    module = SymmetricMap(0.003)
    variables = module.init(jax.random.key(2), jnp.zeros(64))
    w = _matrix(module, variables, (64,)).astype(float)
    assert np.linalg.eigvalsh(w)[-1] == pytest.approx(1 - 0.003, abs=2e-6)


@pytest.mark.parametrize("shape", [(2, 8, 1), (3,)])
def test_an_image_smaller_than_the_kernel_is_refused(shape):
    with pytest.raises(InputError, match="does not fit into an array of shape"):
        SymmetricMap(0.1, (3, 3)).init(jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize("mu", [0.0, 1.0, -1])
def test_mu_is_between_0_and_1(mu):
    with pytest.raises(InputError, match=f"mu={mu} must be above 0 and below 1"):
        SymmetricMap(mu)
