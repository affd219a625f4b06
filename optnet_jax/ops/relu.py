"""ReLU for a value that is used many times."""

import jax
import jax.numpy as jnp


def relu(x: jax.Array) -> jax.Array:
    """Return max(x, 0), NaN for NaN, computed once.

    XLA:CPU copies a maximum with a constant into each operation that reads it, since
    that reads no more memory. After the sum of a residual unit the copies go on through
    the units before: each kernel gradient of a stage recomputes all of the stage up to
    its unit. It does not copy a selection, which reads two arrays.
    """
    return _relu(x)  # a plain function, as what a network holds is copied and pickled


@jax.custom_jvp
def _relu(x: jax.Array) -> jax.Array:
    return jnp.where(x <= 0, 0, x)  # so that NaN stays


@_relu.defjvp
def _jvp(primals: tuple, tangents: tuple) -> tuple:
    (x,), (dx,) = primals, tangents
    return _relu(x), jnp.where(x > 0, dx, 0)
