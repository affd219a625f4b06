"""One layer of a propagation: a step of a recurrence over a linen transform."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.recurrences import Coefficients, Recurrence, State
from optnet_jax.recurrences.iterate import shape_preserving, step_in_dtype


@dataclasses.dataclass(frozen=True)
class EachLayer:
    """T_0..T_{K-1}, each of its own kind, for layers that are written out.

    Attributes:
        transforms: one for each layer, as :class:`Propagation` takes one for all.
    """

    transforms: tuple


class Layer(nn.Module):
    """One step of a recurrence over a linen transform: one layer of the network.

    Attributes:
        recurrence: the method.
        transform: T, shape-preserving; a tuple: one step over each of them in turn, and
            c and keys then have a leading axis of the steps.
        transform_prime: T' of a two-path method with weights of its own, or None.
        inputs: the layer's random keys ↦ what T takes beside x; a function, since linen
            would freeze a dict and trace a flag.
        trajectory: also hand out the output of every layer.
    """

    recurrence: Recurrence
    transform: Any
    transform_prime: Any = None
    inputs: Callable[[list], dict[str, Any]] = lambda keys: {}
    trajectory: bool = False

    @nn.compact
    def __call__(
        self, state: State, c: Coefficients, keys: list, keep: Any
    ) -> tuple[State, Any]:
        """Return the next state and, for a trajectory, its output.

        Args:
            state: of the recurrence.
            c: the step's coefficients.
            keys: its random keys.
            keep: the probability that an example keeps its T; None: all do.
        """
        several = isinstance(self.transform, tuple)
        for i, transform in enumerate(in_turn(self.transform)):
            own, own_keys = part_of((c, keys), i) if several else (c, keys)
            inputs = self.inputs(own_keys)
            operator: Any = self._operator(transform, inputs, keep)
            if self.transform_prime is not None:
                prime = self._operator(self.transform_prime, inputs, keep)
                operator = (prime, operator)
            state = step_in_dtype(self.recurrence, operator, state, own)
        return state, self.recurrence.output(state) if self.trajectory else None

    def _operator(
        self, transform: Callable, inputs: dict[str, Any], keep: Any
    ) -> Callable:
        """Return x ↦ m T(x) / keep, m 1 with probability keep for each example."""
        transform = shape_preserving(functools.partial(transform, **inputs))
        if keep is None:
            return transform

        def dropped(x: jax.Array) -> jax.Array:
            # Without a batch, as in a vmap, x is one example.
            shape = (*x.shape[: x.ndim > 1], *(1,) * (x.ndim - 1))
            mask = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
            y = transform(x)
            return jnp.where(mask, y / keep.astype(y.dtype), jnp.zeros_like(y))

        return dropped


def in_turn(transform: Any) -> tuple:
    """Return the transforms that a layer goes through, one as a rule."""
    return transform if isinstance(transform, tuple) else (transform,)


def part_of(steps: Any, k: int | slice) -> Any:
    """Return what belongs to step k of what has a leading axis of steps."""
    return jax.tree.map(lambda values: values[k], steps)
