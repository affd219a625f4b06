import jax.numpy as jnp
import numpy as np

from optnet_jax.recurrences import Nesterov, iterate, momentum


def test_is_equation_3(float64):
    """(3) as printed, with its y_k, from z_{-1} = z_0."""
    beta, x0 = momentum(10), np.linspace(-2, 2, 4)
    z_previous, z = x0, x0
    zs = [z]
    for k in range(10):
        y = z + beta[k] * (z - z_previous)
        z_previous, z = z, np.sin(y)
        zs.append(z)
    ours = iterate(Nesterov(), jnp.sin, x0, 10, trajectory=True)
    np.testing.assert_allclose(ours, zs, atol=1e-14)


def test_other_coefficients_are_equation_17():
    x0 = jnp.array([1.0, -2.0])
    x = iterate(Nesterov(0.5, 0.25), lambda x: 2 * x, x0, 2)
    # x_1 = 2 (0.75) x_0; x_2 = 2 (0.5 x_1 + 0.25 x_0) = 2 x_0
    np.testing.assert_allclose(x, 2 * x0, rtol=1e-6)


def test_without_beta2_there_is_no_skip_at_all():
    """The paper calls (17) with β2 = 0 "similar to ResNet"; it is (7)."""
    x0 = jnp.array([0.3])
    ours = iterate(Nesterov(1, 0), jnp.cos, x0, 3)
    np.testing.assert_allclose(ours, np.cos(np.cos(np.cos(0.3))), rtol=1e-6)


def test_constant_momentum_is_faster_on_a_strongly_convex_quadratic(float64):
    """Footnote 4: β = (√L - √μ)/(√L + √μ) gives the rate 1 - √(μ/L)."""
    eigenvalues = jnp.linspace(0.01, 1, 20)  # L = 1, μ = 0.01
    beta = (1 - 0.1) / (1 + 0.1)
    x0 = jnp.ones(20)
    accelerated = iterate(
        Nesterov(1 + beta, -beta), lambda z: z - eigenvalues * z, x0, 60
    )
    plain = iterate(Nesterov(1, 0), lambda z: z - eigenvalues * z, x0, 60)
    assert jnp.linalg.norm(accelerated) < 0.05 * jnp.linalg.norm(plain)


def test_a_step_keeps_arrays_of_another_library():
    """The benchmarks run it on PyTorch's, which jax.numpy does not take."""
    x, c = np.ones(3), {"beta1": 1.0, "beta2": 0.0}
    new, _ = Nesterov().step(lambda y: y, (x, x), c)
    assert type(new) is np.ndarray
