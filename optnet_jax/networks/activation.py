"""Φ by name: the eight of Table 1, and one that each layer learns, as in [35]."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.objectives import ACTIVATIONS

LEARNED = "srelu"
NAMES = (*ACTIVATIONS, LEARNED)


class SReLU(nn.Module):
    """The S-shaped rectified linear unit, learned for each channel.

    The identity between t_l and t_r, with slope a_l to its left and a_r to its right.
    It begins as a leaky ReLU, t_l = 0, a_l = 0.2, t_r = a_r = 1.

    Source: Jin, Xu, Feng, Wei, Xiong and Yan, "Deep learning with S-shaped rectified
    linear activation units" (2016), [35] of the paper; there t_r is taken from the
    first batches instead.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return Φ(x), elementwise, x [..., C]."""
        start = {"t_l": 0.0, "a_l": 0.2, "t_r": 1.0, "a_r": 1.0}
        t_l, a_l, t_r, a_r = (
            jnp.broadcast_to(
                self.param(
                    name, nn.initializers.constant(value), x.shape[-1:], jnp.float32
                ).astype(x.dtype),
                x.shape,
            )
            for name, value in start.items()
        )
        right = jnp.where(x > t_r, t_r + a_r * (x - t_r), x)
        return jnp.where(x < t_l, t_l + a_l * (x - t_l), right)


def activation(name: str, module_name: str) -> Callable[[jax.Array], jax.Array]:
    """Return Φ.

    Args:
        name: one of :data:`NAMES`.
        module_name: of the module, inside the one that calls this, where it has
            parameters.
    """
    return SReLU(name=module_name) if name == LEARNED else ACTIVATIONS[name][0]


def activated(
    norm: Callable[..., nn.Module], phi: str, *, name: str, relu: bool = False
) -> Callable[..., jax.Array]:
    """Return a normalisation that is followed by Φ where it would be by a ReLU.

    Args:
        norm: makes it, ``norm(relu=..., name=...)``.
        phi: the name of Φ.
        name: of the module.
        relu: whether anything follows.
    """
    normalise = norm(relu=False, name=name)
    if not relu:
        return normalise
    follows = activation(phi, f"{name}_activation")

    def both(x: Any) -> jax.Array:
        return follows(normalise(x))

    return both
