"""Σ_j α_j T_j(x_j): what a recurrence over the whole history combines, from any T."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.structures import template
from optnet_jax.structures.inputs import split


class Pairwise(nn.Module):
    """Σ_j α_j T_j(x_j), a T of its own for each source: (18) as it is printed.

    As a transform of :class:`~optnet_jax.structures.Propagation` it gives each pair
    (k+1, j) a T, with the parameters ``layer_k/source_j``. Where T is linear after a
    normalisation, one operation can compute all of the sum, see
    :class:`~optnet_jax.networks.dense_layer.DenseUnit`.

    Attributes:
        transform: T, a linen module (a template: each source has a copy of its own) or
            a function without parameters. What it returns has one shape for all
            sources.
    """

    transform: Callable[..., Any]

    @nn.compact
    def __call__(
        self, sources: Sequence[jax.Array], alpha: Any = None, **inputs: Any
    ) -> jax.Array:
        """Return the sum.

        Args:
            sources: x_0..x_k.
            alpha: α_0..α_k, or None for ones.
            inputs: what T takes beside x, by name, as in
                :class:`~optnet_jax.structures.Propagation`.
        """
        taken = split((self.transform,), inputs, len(sources))
        terms = []
        for j, x in enumerate(sources):
            layer: Any = template.copy(self.transform)
            if isinstance(layer, nn.Module):
                layer = layer.clone(parent=self, name=f"source_{j}")
            keys = [key[j] for key in taken.keys]
            y = layer(x, **taken.join(taken.moving, taken.fixed, keys))
            terms.append(y if alpha is None else jnp.asarray(alpha[j], y.dtype) * y)
        return sum(terms[1:], terms[0])
