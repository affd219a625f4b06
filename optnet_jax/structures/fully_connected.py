"""x ↦ Φ(W x): the transform of §4 and §5."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from optnet_jax.errors import InputError


class FullyConnected(nn.Module):
    """x ↦ Φ(W x + b), W square.

    Attributes:
        activation: Φ, elementwise. Default: the sigmoid of §5.3.
        use_bias: whether b is there; the paper has none.
        kernel_init: how W is drawn. Default: Xavier.
    """

    activation: Callable[[Any], jax.Array] = nn.sigmoid
    use_bias: bool = False
    kernel_init: nn.initializers.Initializer = nn.initializers.xavier_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return Φ(W x), [..., n] to [..., n]."""
        if not x.ndim:
            raise InputError("x must be a vector, [..., n], got a single number")
        linear = nn.Dense(
            x.shape[-1],
            use_bias=self.use_bias,
            kernel_init=self.kernel_init,
            name="linear",
        )
        return self.activation(linear(x))
