import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.ops.gradient import with_gradient

# Twice the gradient, to tell the one by hand from autodiff's.
by_hand = with_gradient(
    lambda x, a: jnp.sin(x) * a,
    lambda x, a: (jnp.sin(x) * a, (x, a)),
    lambda residuals, g: (
        2 * g * residuals[1] * jnp.cos(residuals[0]),
        2 * (g * jnp.sin(residuals[0])).sum(),
    ),
)
X, A = jnp.linspace(0.1, 0.5, 3), jnp.float32(3.0)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_reverse_mode_is_by_hand_and_forward_mode_autodiffs(wrap):
    f = wrap(by_hand)
    np.testing.assert_allclose(f(X, A), jnp.sin(X) * 3)
    dx, da = jax.grad(lambda x, a: f(x, a).sum(), argnums=(0, 1))(X, A)
    np.testing.assert_allclose(dx, 2 * 3 * jnp.cos(X), rtol=1e-6)
    np.testing.assert_allclose(da, 2 * jnp.sin(X).sum(), rtol=1e-6)
    _, moved = jax.jvp(f, (X, A), (jnp.ones(3), jnp.float32(1.0)))
    np.testing.assert_allclose(moved, 3 * jnp.cos(X) + jnp.sin(X), rtol=1e-6)
    jacobian = jax.jacfwd(f)(X, A)
    np.testing.assert_allclose(jacobian, jnp.diag(3 * jnp.cos(X)), rtol=1e-6)


def test_second_derivatives_go_through_the_gradient_by_hand():
    def f(x):
        return by_hand(x, A).sum()

    expected = jnp.diag(-2 * 3 * jnp.sin(X))
    np.testing.assert_allclose(jax.hessian(f)(X), expected, rtol=1e-5)
    reverse = jax.jacrev(jax.grad(f))(X)
    np.testing.assert_allclose(reverse, expected, rtol=1e-5)


def test_a_gradient_inside_a_scan_and_under_vmap():
    def scanned(x):
        return jax.lax.scan(lambda c, _: (by_hand(c, A), None), x, length=2)[0].sum()

    inner = jnp.sin(X) * 3
    expected = 2 * 3 * jnp.cos(inner) * 2 * 3 * jnp.cos(X)
    np.testing.assert_allclose(jax.grad(scanned)(X), expected, rtol=1e-5)
    rows = jnp.stack([X, 2 * X])
    for axis in (0, 1):
        batch = rows if axis == 0 else rows.T
        mapped = jax.vmap(jax.grad(scanned), axis)(batch)
        alone = jnp.stack([jax.grad(scanned)(x) for x in rows])
        np.testing.assert_allclose(mapped, alone, rtol=1e-5)
    # One scalar for all: its gradient is the sum over the mapped axis.
    shared = jax.grad(lambda a: jax.vmap(by_hand, (0, None))(rows, a).sum())(A)
    np.testing.assert_allclose(shared, 2 * jnp.sin(rows).sum(), rtol=1e-5)


def test_whole_numbers_pass_through_and_none_is_a_zero_gradient():
    def backward(residuals, cotangents):
        return 2 * cotangents["y"] * residuals, None

    f = with_gradient(
        lambda x, extra: {"y": x * extra["a"], "n": extra["n"] + 1},
        lambda x, extra: (
            {"y": x * extra["a"], "n": extra["n"] + 1},
            extra["a"],
        ),
        backward,
    )
    extra = {"a": A, "n": jnp.arange(2)}

    def loss(x, a):
        out = f(x, {**extra, "a": a})
        return out["y"].sum(), out["n"]

    (dx, da), n = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(X, A)
    np.testing.assert_allclose(dx, [6, 6, 6])
    assert da == 0
    assert n.tolist() == [1, 2]
    moved = jax.jvp(functools.partial(loss, X), (A,), (jnp.float32(1.0),))[1][0]
    np.testing.assert_allclose(moved, X.sum(), rtol=1e-6)


def test_inside_shard_map_the_gradient_of_what_all_have_is_summed_once(assert_close):
    mesh = jax.sharding.Mesh(jax.devices()[:3], ("data",))
    spec = jax.P("data"), jax.P()

    def on_each(x, a):
        return jax.lax.psum(by_hand(x, a).sum(), "data")

    def gradient(x, a):
        return jax.grad(on_each, argnums=(0, 1))(x, a)

    expected = jax.grad(lambda x, a: by_hand(x, a).sum(), argnums=(0, 1))(X, A)
    inside = jax.shard_map(gradient, mesh=mesh, in_specs=spec, out_specs=spec)
    outside = jax.shard_map(on_each, mesh=mesh, in_specs=spec, out_specs=jax.P())
    around = jax.grad(outside, argnums=(0, 1))
    for found in (around, jax.jit(around), jax.jit(inside)):
        assert_close(found(X, A), expected, 1e-6, 0)
    moved = jax.jvp(outside, (X, A), (jnp.ones(3), jnp.float32(1.0)))[1]
    expected = (3 * jnp.cos(X) + jnp.sin(X)).sum()
    np.testing.assert_allclose(moved, expected, rtol=1e-6)
    hessian = jax.hessian(outside)(X, A)
    np.testing.assert_allclose(hessian, jnp.diag(-6 * jnp.sin(X)), rtol=1e-5)


def test_inside_shard_map_none_is_a_zero_gradient_and_vmap_works():
    mesh = jax.sharding.Mesh(jax.devices()[:3], ("data",))
    scaled = with_gradient(
        lambda x, a: x * a, lambda x, a: (x * a, a), lambda a, g: (g * a, None)
    )

    def on_each(x, a):
        return jax.lax.psum(jax.vmap(scaled, (0, None))(x, a).sum(), "data")

    outside = jax.shard_map(
        on_each, mesh=mesh, in_specs=(jax.P("data"), jax.P()), out_specs=jax.P()
    )
    dx, da = jax.jit(jax.grad(outside, argnums=(0, 1)))(X, A)
    np.testing.assert_allclose(dx, jnp.full(3, A))
    assert da == 0
