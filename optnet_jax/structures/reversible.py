"""The heavy ball run backwards: gradients without stored iterates."""

import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.core import Tracer

from optnet_jax.errors import InputError
from optnet_jax.ops.gradient import with_gradient
from optnet_jax.recurrences import Coefficients, HeavyBall, State
from optnet_jax.recurrences.iterate import step_in_dtype
from optnet_jax.structures import template
from optnet_jax.structures.inputs import Inputs
from optnet_jax.structures.propagation import Propagation

_LOGGER = logging.getLogger(__name__)

TOLERANCE = 0.01
"""Relative error of the recomputed x_0 beyond which the gradient is not to be used."""


class ReversiblePropagation(Propagation):
    """A scanned, untied heavy-ball propagation whose backward pass stores two iterates.

    x_{k+1} = s T(x_k) + β1 x_k + β2 x_{k-1} is solved for the oldest iterate,

      x_{k-1} = (s T(x_k) + β1 x_k - x_{k+1}) / (-β2),

    so the backward pass walks from (x_{K-1}, x_K) to x_0 and evaluates each T once
    more, as rematerialisation does. HB-Net's (1, -1) needs neither division nor
    product: rounding errors are not amplified. With |β2| < 1 they grow like |β2|^{-K};
    the recomputed x_0 is therefore compared with the true one in every backward pass.

    Parameters, running statistics and values are those of :class:`Propagation`, the
    statistics are updated in the forward pass only, and the iterates are kept in
    float32 at least. What T draws it draws again in the backward pass, from the same
    keys. A trajectory is stored, so its gradient is backpropagation's.

    Its attributes are those of :class:`Propagation`.
    """

    def _scanned(
        self,
        state: State,
        coefficients: Coefficients,
        inputs: Inputs,
        trajectory: bool,
    ) -> tuple:
        recurrence = self._checked_recurrence()
        state = jax.tree.map(
            lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), state
        )
        if self.is_initializing() or trajectory:
            return super()._scanned(state, coefficients, inputs, trajectory)
        collections = {
            name: variables["layers"]
            for name, variables in self.variables.items()
            if "layers" in variables
        }
        mutable = [
            name
            for name in collections
            if name != "params" and self.is_mutable_collection(name)
        ]
        # What a layer only reads has a gradient, as running statistics in evaluation.
        params = {
            name: variables
            for name, variables in collections.items()
            if name not in mutable and all(map(_is_real, jax.tree.leaves(variables)))
        }
        collections = {name: collections[name] for name in collections.keys() - params}
        rngs = {
            name: jax.random.split(self.make_rng(name), self.depth)
            for name in (self.scope.rngs if self.scope else ())
        }
        real = [_is_real(array) for array in inputs.arrays]
        moving = [array for array in inputs.arrays if _is_real(array)]
        fixed = [array for array in inputs.arrays if not _is_real(array)]

        def named(moving: list, fixed: list, keys: list) -> dict[str, Any]:
            rest = (iter(fixed), iter(moving))
            return inputs.join([next(rest[is_real]) for is_real in real], keys)

        run = _make_run(recurrence, _pure(self.transform, mutable, named))
        constants = (collections, rngs, inputs.keys)
        state, updated = run(params, constants, moving, fixed, coefficients, *state)
        for name in mutable:
            self.put_variable(name, "layers", updated[name])
        return state, None

    def _unrolled(
        self,
        state: State,
        coefficients: Coefficients,
        inputs: Inputs,
        trajectory: bool,
    ) -> tuple:
        self._checked_recurrence()  # refuses tied and unroll
        return super()._unrolled(state, coefficients, inputs, trajectory)

    def _checked_recurrence(self) -> HeavyBall:
        method = self.recurrence
        if not isinstance(method, HeavyBall):
            raise InputError(
                f"reversible needs the heavy ball (16), whose x_(k-1) can be solved "
                f"for; {type(method).__name__} has no such form"
            )
        if method.post_activation is not None:
            raise InputError(
                "reversible needs post_activation=None: an activation of the sum "
                "cannot be undone"
            )
        if not isinstance(method.beta2, Tracer) and not np.all(method.beta2):
            raise InputError(
                "reversible needs beta2 != 0 in every step: x_(k-1) is solved for by "
                "dividing by it. Use remat=True to save memory instead"
            )
        if self.tied or self.unroll or self.remat or self.drop_path:
            raise InputError(
                "reversible excludes tied, unroll, remat and drop_path: it scans "
                "layers with weights of their own, stores no iterate and drops none"
            )
        return method


def _is_real(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.inexact)


def _pure(transform: Any, mutable: list[str], inputs: Any) -> Any:
    """Return (params, constants, moving, fixed, x) ↦ (T(x), updated) of one layer."""
    module = template.copy(transform)

    def apply(params: Any, constants: tuple, moving: Any, fixed: Any, x: Any) -> tuple:
        collections, rngs, keys = constants
        named = inputs(moving, fixed, keys)
        if not isinstance(module, nn.Module):
            return transform(x, **named), {}
        variables = {
            name: values["transform"]
            for name, values in {**params, **collections}.items()
            if "transform" in values
        }
        y, updated = module.apply(variables, x, **named, rngs=rngs, mutable=mutable)
        return y, {name: {"transform": values} for name, values in updated.items()}

    return apply


def _make_run(recurrence: HeavyBall, transform: Any) -> Any:
    """Return the run over all layers, with its gradient.

    It maps (params, constants, moving, fixed, coefficients, x_0, x_{-1}) to
    (x_K, x_{K-1}) and the updated collections. What is each layer's own is stacked,
    [K, ...]: parameters, constants and coefficients; moving and fixed are the inputs
    of T that all layers share, with a gradient and without.
    """

    def run(params, constants, moving, fixed, coefficients, x, previous):
        def step(state: tuple, layer: tuple) -> tuple:
            params, constants, c = layer
            t, updated = transform(params, constants, moving, fixed, state[0])
            return step_in_dtype(recurrence, lambda _: t, state, c), updated

        layers = (params, constants, coefficients)
        return jax.lax.scan(step, (x, previous), layers)

    def forward(params, constants, moving, fixed, coefficients, x, previous):
        result = run(params, constants, moving, fixed, coefficients, x, previous)
        shared = (moving, fixed, x)
        return result, (params, constants, coefficients, shared, result[0])

    def backward_step(shared: tuple, carry: tuple, layer: tuple) -> tuple:
        x_next, x, g_next, g, g_moving = carry
        params, constants, c = layer
        moving, fixed = shared
        t, vjp = jax.vjp(
            lambda p, m, x: transform(p, constants, m, fixed, x)[0], params, moving, x
        )
        scaled, g_t, terms = t, g_next, {"beta1": x}
        if "scale" in c:
            scaled, g_t, terms["scale"] = c["scale"] * t, c["scale"] * g_next, t
        previous = (scaled + c["beta1"] * x - x_next) / -c["beta2"]
        terms["beta2"] = previous = previous.astype(x.dtype)
        g_params, g_here, g_x = vjp(g_t.astype(t.dtype))
        g_moving = jax.tree.map(jnp.add, g_moving, g_here)
        g_c = {
            name: jnp.vdot(g_next, term).astype(c[name].dtype)
            for name, term in terms.items()
        }
        g_x = (g + g_x + c["beta1"] * g_next).astype(x.dtype)
        g_previous = (c["beta2"] * g_next).astype(x.dtype)
        return (x, previous, g_x, g_previous, g_moving), (g_params, g_c)

    def backward(residuals: tuple, cotangents: tuple) -> tuple:
        params, constants, coefficients, (moving, fixed, x0), last = residuals
        carry, (g_params, g_coefficients) = jax.lax.scan(
            functools.partial(backward_step, (moving, fixed)),
            (*last, *cotangents[0], jax.tree.map(jnp.zeros_like, moving)),
            (params, constants, coefficients),
            reverse=True,
        )
        recomputed, _, g_x, g_previous, g_moving = carry
        g_x = _checked(g_x, recomputed, x0, coefficients["beta2"])
        return g_params, None, g_moving, None, g_coefficients, g_x, g_previous

    return with_gradient(run, forward, backward)


def _checked(
    gradient: jax.Array, recomputed: jax.Array, x0: jax.Array, beta2: jax.Array
) -> jax.Array:
    """Return the gradient after comparing the recomputed x_0 with the true one."""
    error = jnp.linalg.norm((recomputed - x0).ravel())
    relative = error / jnp.linalg.norm(x0.ravel())
    accurate = relative <= TOLERANCE  # False for NaN, too
    smallest = jnp.abs(beta2).min()
    jax.lax.cond(
        accurate,
        lambda: None,
        lambda: jax.debug.callback(_report_if_inaccurate, relative, smallest),
    )
    return jnp.where(accurate, gradient, jnp.nan)


def _report_if_inaccurate(relative: Any, smallest: Any) -> None:
    if relative <= TOLERANCE:  # vmap runs both branches of a conditional
        return
    # Raising here would leave the other devices of a mesh waiting for this one; the
    # NaN ends the training.
    _LOGGER.error(
        "the reversible backward pass recomputed x_0 with a relative error of %.2g, "
        "so its gradient is set to NaN; the smallest |beta2| is %.2g, and near 0 it "
        "cannot be divided by: train without reversible, or keep beta2 fixed",
        relative,
        smallest,
    )
