"""Φ by name: the eight of Table 1, GELU, and one that each layer learns, as in [35]."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.objectives import ACTIVATIONS

GELU = "gelu"
LEARNED = "srelu"
NAMES = (*ACTIVATIONS, GELU, LEARNED)


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
    """Return Φ of a name; ``module_name`` is of the module that has its parameters."""
    if name == LEARNED:
        return SReLU(name=module_name)
    if name == GELU:
        return functools.partial(nn.gelu, approximate=False)
    return ACTIVATIONS[name][0]


def each(names: str | Sequence[str], number: int, what: str) -> tuple[str, ...]:
    """Return the name of Φ for each of a network's units: one is for all.

    Raises:
        InputError: another number of names.
    """
    if isinstance(names, str):
        return (names,) * number
    if len(names) != number:
        raise InputError(
            f"activation has {len(names)} names, and the network {number} {what}: give "
            f"one for each, or one for all, of {', '.join(NAMES)}"
        )
    return tuple(names)


def activated(
    norm: Callable[..., nn.Module], phi: str, *, name: str, relu: bool = False
) -> Callable[..., jax.Array]:
    """Return ``norm(relu=..., name=...)``, with Φ where the ReLU would be."""
    normalise = norm(relu=False, name=name)
    if not relu:
        return normalise
    follows = activation(phi, f"{name}_activation")

    def both(x: Any) -> jax.Array:
        return follows(normalise(x))

    return both
