"""Heavy balls and RevNets run backwards: gradients without stored iterates."""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.core import Tracer

from optnet_jax.errors import InputError
from optnet_jax.ops.gradient import with_gradient
from optnet_jax.recurrences import (
    Coefficients,
    Coupled,
    HeavyBall,
    State,
    number_of_paths,
)
from optnet_jax.recurrences.iterate import step_in_dtype
from optnet_jax.structures import template
from optnet_jax.structures.inputs import Inputs
from optnet_jax.structures.propagation import Propagation

_LOGGER = logging.getLogger(__name__)

TOLERANCE = 0.01
"""Relative error of the recomputed x_0 beyond which the gradient is not to be used."""


class ReversiblePropagation(Propagation):
    """A scanned, untied propagation whose backward pass stores two iterates.

    The heavy ball, x_{k+1} = s T(x_k) + β1 x_k + β2 x_{k-1}, is solved for the oldest,

      x_{k-1} = (s T(x_k) + β1 x_k - x_{k+1}) / (-β2),

    and RevNet, :class:`~optnet_jax.recurrences.Coupled`, for both of its paths,

      x_k = x_{k+1} - T(x'_{k+1}),  x'_k = x'_{k+1} - T'(x_k),

    so the backward pass walks from the last iterates to the first and evaluates each T
    once more, as rematerialisation does. HB-Net's (1, -1) and RevNet need neither
    division nor product: rounding errors grow as any perturbation does on its way back.
    With |β2| < 1 they grow like |β2|^{-K}, too; the recomputed x_0, of two paths x'_0,
    is therefore compared with the true one in every backward pass.

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

        operators = self._operators(mutable, named)
        run = _make_run(recurrence, operators, mutable, self.depth)
        constants = (collections, rngs, inputs.keys)
        state, updated = run(params, constants, moving, fixed, coefficients, *state)
        for name in mutable:
            self.put_variable(name, "layers", updated[name])
        return state, None

    def _operators(self, mutable: list[str], named: Callable) -> list[Callable]:
        """Return each path's T as a function of its variables, T' first."""
        operator = functools.partial(_pure, self.transform, mutable, named)
        if number_of_paths(self.recurrence) == 1:
            return [operator("transform", 0)]
        prime = "transform_prime" if self.separate_paths else "transform"
        return [operator(prime, 1), operator("transform", 0)]

    def _unrolled(
        self,
        state: State,
        coefficients: Coefficients,
        inputs: Inputs,
        trajectory: bool,
    ) -> tuple:
        self._checked_recurrence()  # refuses tied and unroll
        return super()._unrolled(state, coefficients, inputs, trajectory)

    def _checked_recurrence(self) -> HeavyBall | Coupled:
        method = self.recurrence
        if not isinstance(method, HeavyBall | Coupled):
            raise InputError(
                f"reversible needs the heavy ball (16), whose x_(k-1) can be solved "
                f"for, or RevNet's Coupled; {type(method).__name__} has no such form"
            )
        if isinstance(method, HeavyBall):
            _check_heavy_ball(method)
        if self.tied or self.unroll or self.remat or self.drop_path:
            raise InputError(
                "reversible excludes tied, unroll, remat and drop_path: it scans "
                "layers with weights of their own, stores no iterate and drops none"
            )
        if isinstance(self.transform, tuple):
            raise InputError(
                "reversible excludes transforms in turn: give one module of them"
            )
        return method


def _check_heavy_ball(method: HeavyBall) -> None:
    if method.post_activation is not None:
        raise InputError(
            "reversible needs post_activation=None: an activation of the sum cannot be "
            "undone"
        )
    if not isinstance(method.beta2, Tracer) and not np.all(method.beta2):
        raise InputError(
            "reversible needs beta2 != 0 in every step: x_(k-1) is solved for by "
            "dividing by it. Use remat=True to save memory instead"
        )


def _is_real(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.inexact)


def _pure(
    transform: Any, mutable: list[str], inputs: Any, owner: str, path: int
) -> Any:
    """Return (params, constants, moving, fixed, x) ↦ (T(x), updated) of one layer.

    Args:
        transform: T.
        mutable: the collections that T may update.
        inputs: what T takes beside x, of (moving, fixed, keys).
        owner: the name of T's variables in a layer.
        path: 0; another number draws other random numbers from the layer's keys.
    """
    module = template.copy(transform)

    def apply(params: Any, constants: tuple, moving: Any, fixed: Any, x: Any) -> tuple:
        collections, rngs, keys = constants
        named = inputs(moving, fixed, keys)
        if not isinstance(module, nn.Module):
            return transform(x, **named), {}
        variables = {
            name: values[owner]
            for name, values in {**params, **collections}.items()
            if owner in values
        }
        if path:
            rngs = {name: jax.random.fold_in(key, path) for name, key in rngs.items()}
        y, updated = module.apply(variables, x, **named, rngs=rngs, mutable=mutable)
        return y, {name: {owner: values} for name, values in updated.items()}

    return apply


def _make_run(
    recurrence: HeavyBall | Coupled,
    operators: list[Callable],
    mutable: list[str],
    depth: int,
) -> Any:
    """Return the run over all layers, with its gradient.

    It maps (params, constants, moving, fixed, coefficients, x_0, x_{-1}), or (.., x'_0,
    x_0), to the state after the last layer and the updated collections. What is each
    layer's own is stacked, [K, ...]: parameters, constants and coefficients; moving and
    fixed are the inputs of T that all layers share, with a gradient and without.
    """
    undo = _undo_heavy_ball if isinstance(recurrence, HeavyBall) else _undo_coupled

    def run(params, constants, moving, fixed, coefficients, first, second):
        def step(state: tuple, layer: tuple) -> tuple:
            params, (collections, *rest), c = layer

            def bind(apply: Callable) -> Callable:
                def operator(x: jax.Array) -> jax.Array:
                    nonlocal collections
                    constants = (collections, *rest)
                    t, updated = apply(params, constants, moving, fixed, x)
                    for name, values in updated.items():
                        own = {**collections.get(name, {}), **values}
                        collections = {**collections, name: own}
                    return t

                return operator

            bound = [bind(apply) for apply in operators]
            transform = tuple(bound) if len(bound) > 1 else bound[0]
            state = step_in_dtype(recurrence, transform, state, c)
            return state, {name: collections[name] for name in mutable}

        layers = (params, constants, coefficients)
        return jax.lax.scan(step, (first, second), layers, depth)

    def forward(params, constants, moving, fixed, coefficients, first, second):
        result = run(params, constants, moving, fixed, coefficients, first, second)
        shared = (moving, fixed, first)
        return result, (params, constants, coefficients, shared, result[0])

    def backward_step(shared: tuple, carry: tuple, layer: tuple) -> tuple:
        *state, g_first, g_second, g_moving = carry
        params, constants, c = layer
        moving, fixed = shared

        def with_pullback(apply: Callable) -> Callable:
            def evaluate(x: jax.Array) -> tuple:
                t, vjp = jax.vjp(
                    lambda p, m, x: apply(p, constants, m, fixed, x)[0],
                    params,
                    moving,
                    x,
                )
                return t, lambda g: vjp(g.astype(t.dtype))

            return evaluate

        state, gradients, (g_params, g_here), g_c = undo(
            [with_pullback(apply) for apply in operators],
            state,
            (g_first, g_second),
            c,
        )
        g_moving = jax.tree.map(jnp.add, g_moving, g_here)
        return (*state, *gradients, g_moving), (g_params, g_c)

    def backward(residuals: tuple, cotangents: tuple) -> tuple:
        params, constants, coefficients, (moving, fixed, x0), last = residuals
        carry, (g_params, g_coefficients) = jax.lax.scan(
            functools.partial(backward_step, (moving, fixed)),
            (*last, *cotangents[0], jax.tree.map(jnp.zeros_like, moving)),
            (params, constants, coefficients),
            depth,
            reverse=True,
        )
        recomputed, _, g_first, g_second, g_moving = carry
        g_first = _checked(g_first, recomputed, x0, coefficients.get("beta2"))
        return g_params, None, g_moving, None, g_coefficients, g_first, g_second

    return with_gradient(run, forward, backward)


def _undo_heavy_ball(
    operators: Sequence[Callable], state: Sequence, gradients: Sequence, c: Any
) -> tuple:
    """Return (x_k, x_{k-1}), their gradients, those of T's variables, and of c.

    Args:
        operators: x ↦ (T(x), its pullback to (params, moving, x)).
        state: (x_{k+1}, x_k).
        gradients: of them.
        c: the coefficients of the step.
    """
    (x_next, x), (g_next, g) = state, gradients
    t, pull = operators[0](x)
    scaled, g_t, terms = t, g_next, {"beta1": x}
    if "scale" in c:
        scaled, g_t, terms["scale"] = c["scale"] * t, c["scale"] * g_next, t
    previous = (scaled + c["beta1"] * x - x_next) / -c["beta2"]
    terms["beta2"] = previous = previous.astype(x.dtype)
    g_params, g_moving, g_x = pull(g_t)
    g_c = {
        name: jnp.vdot(g_next, term).astype(c[name].dtype)
        for name, term in terms.items()
    }
    g_x = (g + g_x + c["beta1"] * g_next).astype(x.dtype)
    g_previous = (c["beta2"] * g_next).astype(x.dtype)
    return (x, previous), (g_x, g_previous), (g_params, g_moving), g_c


def _undo_coupled(
    operators: Sequence[Callable], state: Sequence, gradients: Sequence, c: Any
) -> tuple:
    """Return (x'_k, x_k), their gradients, those of T's variables, and of c.

    Args:
        operators: x ↦ (T'(x), its pullback to (params, moving, x)), and T's.
        state: (x'_{k+1}, x_{k+1}).
        gradients: of them.
        c: no coefficients.
    """
    (x_prime, x), (g_prime, g) = state, gradients
    t, pull = operators[1](x_prime)
    x = (x - t).astype(x.dtype)
    *of_plain, g_through = pull(g)
    g_prime = (g_prime + g_through).astype(x.dtype)
    t, pull = operators[0](x)
    x_prime = (x_prime - t).astype(x.dtype)
    *of_prime, g_through = pull(g_prime)
    g = (g + g_through).astype(x.dtype)
    own = jax.tree.map(jnp.add, of_prime, of_plain)
    return (x_prime, x), (g_prime, g), own, {}


def _checked(
    gradient: jax.Array, recomputed: jax.Array, x0: jax.Array, beta2: jax.Array | None
) -> jax.Array:
    """Return the gradient after comparing the recomputed x_0 with the true one."""
    error = jnp.linalg.norm((recomputed - x0).ravel())
    relative = error / jnp.linalg.norm(x0.ravel())
    accurate = relative <= TOLERANCE  # False for NaN, too
    found = (relative,) if beta2 is None else (relative, jnp.abs(beta2).min())
    jax.lax.cond(
        accurate,
        lambda: None,
        lambda: jax.debug.callback(_report_if_inaccurate, *found),
    )
    return jnp.where(accurate, gradient, jnp.nan)


def _report_if_inaccurate(relative: Any, smallest: Any = None) -> None:
    if relative <= TOLERANCE:  # vmap runs both branches of a conditional
        return
    cause, cure = "its layers amplify rounding errors on the way back", ""
    if smallest is not None:
        cause = f"the smallest |beta2| is {smallest:.2g}, and near 0 it cannot be "
        cause, cure = f"{cause}divided by", ", or keep beta2 fixed"
    # Raising here would leave the other devices of a mesh waiting for this one; the
    # NaN ends the training.
    _LOGGER.error(
        "the reversible backward pass recomputed x_0 with a relative error of %.2g, "
        "so its gradient is set to NaN; %s: train without reversible%s",
        relative,
        cause,
        cure,
    )
