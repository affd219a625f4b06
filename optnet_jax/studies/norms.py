"""Norms of signals and gradients, layer by layer, and how they grow."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.recurrences import takes_history
from optnet_jax.structures import Propagation
from optnet_jax.structures.layer import Layer

TOLERANCE = 0.05
"""Growth a layer above 1 that is let through; 1.05 is x 200 over 110 layers."""


@dataclasses.dataclass(frozen=True)
class Norms:
    """Root mean squares behind each layer of a network.

    Attributes:
        signal: of x_k, k = 1..K. [depth]
        gradient: of dL/ds_k, where the state s_k is x_k with all that the method
            remembers: what training would change if it could change the layer's output.
            What counts steps has none. [depth]
    """

    signal: np.ndarray
    gradient: np.ndarray

    @property
    def signal_growth(self) -> float:
        """The factor of a layer by which the signal grows on its way forward."""
        return fit_growth(self.signal)

    @property
    def gradient_growth(self) -> float:
        """The factor of a layer by which the gradient grows on its way back."""
        return fit_growth(self.gradient[::-1])

    def warnings(self, name: str, tolerance: float = TOLERANCE) -> list[str]:
        """Return a line for the signal and one for the gradient where they grow.

        Args:
            name: of the structure.
            tolerance: growth up to 1 + tolerance a layer is let through.
        """
        depth = len(self.signal)
        return [
            f"{name} amplifies its {what}: x {growth:.3g} a layer, x "
            f"{growth**depth:.3g} over {depth} layers"
            for what, growth in (
                ("signal", self.signal_growth),
                ("gradient", self.gradient_growth),
            )
            if growth > 1 + tolerance
        ]


def fit_growth(values: np.ndarray) -> float:
    """Return the factor of a step of the exponential that fits norms best.

    Those that are 0 or not finite are left out; with fewer than two it is NaN.

    >>> round(fit_growth(np.array([1.0, 2.0, 4.0, 8.0])), 6)
    2.0
    """
    values = np.asarray(values, float)
    logs = np.log(values, where=values > 0, out=np.full(values.shape, np.nan))
    return float(np.exp(fit_slope(np.arange(len(logs)), logs)))


def fit_slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the slope of the line that fits best where y is finite, or NaN."""
    known = np.isfinite(y)
    return float(np.polyfit(x[known], y[known], 1)[0]) if known.sum() > 1 else np.nan


def measure(
    module: nn.Module,
    variables: Any,
    x: jax.Array,
    loss: Callable[[Any], jax.Array],
    **arguments: Any,
) -> Norms:
    """Measure the norms in any network whose layers are steps of a recurrence.

    Args:
        module: a :class:`~optnet_jax.structures.Propagation` with ``unroll=True``, or a
            network that is made of such.
        variables: its variables.
        x: its input.
        loss: output -> L, a scalar.
        **arguments: of the module's call, such as ``train=True``.

    Raises:
        InputError: layers that are scanned, recomputed or reversible, that take the
            whole history, or none.
    """
    mutable = [name for name in variables if name != "params"]

    def run(nudges: Any) -> tuple[jax.Array, tuple]:
        states, signals = [], []
        with nn.intercept_methods(_interceptor(nudges, states, signals)):
            output, _ = module.apply(variables, x, mutable=mutable, **arguments)  # pyright: ignore
        return loss(output), (states, signals)

    states = jax.eval_shape(run, None)[1][0]
    if not states:
        raise InputError(
            f"{type(module).__name__} has no layer that is a step of a recurrence"
        )
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), states)
    gradient = jax.grad(run, has_aux=True, allow_int=True)
    gradients, (_, signals) = jax.jit(gradient)(zeros)
    return Norms(
        np.array([root_mean_square(signal) for signal in signals]),
        np.array([root_mean_square(gradient) for gradient in gradients]),
    )


def _interceptor(nudges: list | None, states: list, signals: list) -> Callable:
    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        if isinstance(module, Propagation):
            _check_layers(module)
        result = call(*args, **kwargs)
        if not isinstance(module, Layer):
            return result
        state, output = result
        if nudges is not None:
            state = jax.tree.map(jnp.add, state, nudges[len(states)])
        states.append(state)
        signals.append(module.recurrence.output(state))
        return state, output

    return intercept


def _check_layers(module: Propagation) -> None:
    if takes_history(module.recurrence):
        raise InputError(
            f"{type(module.recurrence).__name__} takes the whole history, which grows: "
            f"its layers hand on no one state to measure; give a method of one state, "
            f"such as NesterovSum"
        )
    if not module.unroll or module.remat:
        raise InputError(
            "norms are measured layer by layer: make the structure with unroll=True, "
            "without remat and not reversible"
        )


def root_mean_square(tree: Any) -> float:
    """Return the root mean square of all numbers in a pytree that has any.

    What JAX has in place of the gradient of a whole number is left out.
    """
    leaves = [
        np.asarray(leaf, np.float64).ravel()
        for leaf in jax.tree.leaves(tree)
        if leaf.dtype != jax.dtypes.float0
    ]
    return float(np.sqrt(np.mean(np.concatenate(leaves) ** 2)))
