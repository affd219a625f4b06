"""Methods that can be undone, run backwards: gradients without stored iterates."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core.scope import subtract_filters

from optnet_jax.errors import InputError
from optnet_jax.ops.gradient import Space, with_gradient
from optnet_jax.recurrences import Coefficients, State, number_of_paths
from optnet_jax.recurrences.iterate import step_in_dtype
from optnet_jax.structures import template
from optnet_jax.structures.checks import check_reversible
from optnet_jax.structures.inputs import Inputs
from optnet_jax.structures.layer import part_of
from optnet_jax.structures.propagation import Propagation

_LOGGER = logging.getLogger(__name__)

TOLERANCE = 0.01
"""Relative error of the recomputed x_0 beyond which the gradient is not to be used."""


class ReversiblePropagation(Propagation):
    """A scanned, untied propagation whose backward pass stores one state.

    The heavy ball, x_{k+1} = s T(x_k) + β1 x_k + β2 x_{k-1}, is solved for the oldest,

      x_{k-1} = (s T(x_k) + β1 x_k - x_{k+1}) / (-β2),

    and RevNet, :class:`~optnet_jax.recurrences.Coupled`, for both of its paths,

      x_k = x_{k+1} - T(x'_{k+1}),  x'_k = x'_{k+1} - T'(x_k).

    Any other method with an ``undo`` is run backwards by it. So the backward pass walks
    from the last state to the first and evaluates each T once more, as
    rematerialisation does. HB-Net's (1, -1) and RevNet need neither division nor
    product: rounding errors grow as any perturbation does on its way back. With
    |β2| < 1 they grow like |β2|^{-K}, too; the recomputed x_0 is therefore compared
    with the true one in every backward pass.

    Parameters, running statistics and values are those of :class:`Propagation`, the
    statistics are updated in the forward pass only and have no gradient, and the
    iterates are kept in float32 at least. What T draws it draws again in the backward
    pass, from the same keys. A trajectory is stored, so its gradient is
    backpropagation's. To collections other than ``batch_stats`` T may write no real
    numbers where a gradient is taken. What a T that is a function closes over and is
    traced must be real numbers; inside ``jax.shard_map`` it is given by name instead,
    as an input.

    Its attributes are those of :class:`Propagation`.
    """

    def __post_init__(self):
        super().__post_init__()
        several = isinstance(self.transform, tuple)
        check_reversible(self, self.recurrence, several, self.drop_path)

    def _scanned(
        self, state: State, coefficients: Coefficients, inputs: Inputs, trajectory: bool
    ) -> tuple:
        state = jax.tree.map(
            lambda x: (
                x.astype(jnp.promote_types(x.dtype, jnp.float32)) if _is_real(x) else x
            ),
            state,
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
        transform = self.transform
        if not template.holds_module(transform):
            x = jax.eval_shape(self.recurrence.output, state)
            transform, inputs = _closed_over_nothing(transform, inputs, x)
        operators = self._operators(transform, mutable, inputs.join)
        layers = _Run(self.recurrence, operators, mutable, self.depth)
        run = with_gradient(layers.run, layers.forward, layers.backward)
        constants = (collections, rngs, inputs.keys)
        of_all = inputs.moving, inputs.fixed
        state, updated = run(params, constants, *of_all, coefficients, state)
        for name in mutable:
            self.put_variable(name, "layers", updated[name])
        return state, None

    def _operators(
        self, transform: Any, mutable: list[str], named: Callable
    ) -> list[Callable]:
        """Return each path's T as a function of its variables, T' first."""
        asked = subtract_filters(self.scope.mutable if self.scope else False, "params")
        operator = functools.partial(_pure, transform, mutable, asked, named)
        if number_of_paths(self.recurrence) == 1:
            return [operator("transform", 0)]
        prime = "transform_prime" if self.separate_paths else "transform"
        return [operator(prime, 1), operator("transform", 0)]


def _is_real(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.inexact)


def _closed_over_nothing(transform: Callable, inputs: Inputs, x: Any) -> tuple:
    """Return a T that is given by name what it closes over and may have a gradient.

    A gradient by hand is one with respect to arguments.
    """

    def call(x: Any, *given: Any) -> Any:
        return transform(x, **inputs.join(*given))

    keys = jax.eval_shape(lambda: part_of(inputs.keys, 0))
    converted, values = jax.closure_convert(call, x, inputs.moving, inputs.fixed, keys)
    if not values:
        return transform, inputs
    count = len(inputs.moving)

    def join(moving: Any, fixed: Any, keys: Any) -> dict[str, Any]:
        return {"given": (moving[:count], fixed, keys), "values": moving[count:]}

    moving = [*inputs.moving, *values]
    return (
        lambda x, given, values: converted(x, *given, *values),
        inputs._replace(moving=moving, join=join),
    )


def _pure(
    transform: Any, mutable: list[str], asked: Any, inputs: Any, owner: str, path: int
) -> Any:
    """Return (params, constants, moving, fixed, x) ↦ (T(x), updated) of one layer.

    ``owner`` is the name of T's variables; each ``path`` draws other random numbers.
    Collections that are ``asked`` for and not ``mutable`` have no variables so far: T
    may sow nothing into them.
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
        y, updated = module.apply(variables, x, **named, rngs=rngs, mutable=asked)
        if sown := sorted(updated.keys() - set(mutable)):
            raise InputError(
                f"{type(module).__name__} sows into {', '.join(sown)}, and reversible "
                "keeps nothing of a layer: leave that out of mutable, or reversible"
            )
        return y, {name: {owner: values} for name, values in updated.items()}

    return apply


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """The run over all layers, and its gradient.

    It maps (params, constants, moving, fixed, coefficients, state) to the state after
    the last layer and the updated collections. What is each layer's own is stacked,
    [K, ...]: parameters, constants and coefficients; moving and fixed are the inputs of
    T that all layers share, with a gradient and without.

    Attributes:
        recurrence: the method.
        operators: T of each path as a function of its variables, T' first.
        mutable: the collections that T updates.
        depth: K.
    """

    recurrence: Any
    operators: Sequence[Callable]
    mutable: Sequence[str]
    depth: int

    def _over(self, call: Callable) -> Any:
        """Return the operators x ↦ call(i, x) of all paths, as a method takes them."""
        first, *others = (
            functools.partial(call, i) for i in range(len(self.operators))
        )
        return (first, *others) if others else first

    def run(self, params, constants, moving, fixed, coefficients, state):
        """Return the state after the last layer, and the updated collections."""

        def layer(state: State, own: tuple) -> tuple:
            params, (collections, *rest), c = own

            def call(i: int, x: jax.Array) -> jax.Array:
                nonlocal collections
                constants = (collections, *rest)
                t, updated = self.operators[i](params, constants, moving, fixed, x)
                for name, values in updated.items():
                    own = {**collections.get(name, {}), **values}
                    collections = {**collections, name: own}
                return t

            state = step_in_dtype(self.recurrence, self._over(call), state, c)
            return state, {name: collections[name] for name in self.mutable}

        return jax.lax.scan(layer, state, (params, constants, coefficients), self.depth)

    def forward(self, *arguments: Any) -> tuple:
        """Return the run's value, and what its gradient needs: no iterate but two."""
        result = self.run(*arguments)
        return result, (*arguments, result[0])

    def backward(self, residuals: tuple, cotangents: tuple) -> tuple:
        """Walk from the last state to the first; return the arguments' gradients.

        Raises:
            InputError: T writes to a collection that may be part of a loss.
        """
        params, constants, moving, fixed, coefficients, first, last = residuals
        for name, written in cotangents[1].items():
            if name != "batch_stats" and any(map(_is_real, jax.tree.leaves(written))):
                raise InputError(
                    f"T writes to {name}, of which reversible has no gradient: leave "
                    f"reversible out, or write what needs none to batch_stats"
                )
        space = Space(last)
        (recomputed, gradient, g_moving), (g_params, g_coefficients) = jax.lax.scan(
            functools.partial(self._layer_back, moving, fixed),
            (last, space.vectors(cotangents[0]), jax.tree.map(jnp.zeros_like, moving)),
            (params, constants, coefficients),
            self.depth,
            reverse=True,
        )
        output = self.recurrence.output
        accurate = _is_accurate(
            output(recomputed), output(first), output(last), coefficients.get("beta2")
        )
        gradient = space.tree([jnp.where(accurate, g, jnp.nan) for g in gradient])
        return g_params, None, g_moving, None, g_coefficients, gradient

    def _layer_back(self, moving: Any, fixed: Any, carry: tuple, own: tuple) -> tuple:
        """Undo one layer, and take the gradient from its end to its start."""
        state, vectors, g_moving = carry
        params, constants, c = own
        space = Space(state)  # a scan carries no tangents of whole numbers
        gradient = space.tree(vectors)
        state, values, pullbacks = self._undone(
            state,
            c,
            lambda i, p, m, x: self.operators[i](p, constants, m, fixed, x)[0],
            params,
            moving,
        )
        order = []

        def step(state: State, c: Coefficients, values: Any) -> tuple:
            """Return the next state, and where each T is evaluated."""
            points = {}

            def known(i: int, x: jax.Array) -> jax.Array:
                order.append(i)
                points[i] = x
                return values[i]

            transform = self._over(known)
            return step_in_dtype(self.recurrence, transform, state, c), points

        stepped: Any = jax.vjp(step, state, c, values)
        (_, points), pull = stepped
        self._check_once("step", order)
        # What T is evaluated at last is what it pulls back first.
        g_points, g_own = jax.tree.map(jnp.zeros_like, points), []
        for i in reversed(order):
            *_, g_values = pull((gradient, g_points))
            g_params, g_here, g_points[i] = pullbacks[i](g_values[i])
            g_own.append((g_params, g_here))
        gradient, g_c, _ = pull((gradient, g_points))
        g_params, g_here = jax.tree.map(lambda *g: sum(g[1:], g[0]), *g_own)
        g_moving = jax.tree.map(jnp.add, g_moving, g_here)
        return (state, space.vectors(gradient), g_moving), (g_params, g_c)

    def _undone(
        self, state: State, c: Coefficients, apply: Callable, params: Any, moving: Any
    ) -> tuple[State, dict, dict]:
        """Return the state before a step, and each T there with its pullback."""
        values, pullbacks, order = {}, {}, []

        def evaluated(i: int, x: jax.Array) -> jax.Array:
            order.append(i)
            of = functools.partial(apply, i)
            values[i], pullbacks[i] = jax.vjp(of, params, moving, x)
            return values[i]

        transform = self._over(evaluated)
        state = step_in_dtype(self.recurrence, transform, state, c, "undo")
        self._check_once("undo", order)
        return state, dict(sorted(values.items())), pullbacks

    def _check_once(self, method: str, evaluated: list[int]) -> None:
        count = len(self.operators)
        if sorted(evaluated) != list(range(count)):
            raise InputError(
                f"{type(self.recurrence).__name__}.{method} must evaluate each of its "
                f"{count} T once, and evaluates {len(evaluated)}"
            )


def _is_accurate(
    recomputed: jax.Array, x0: jax.Array, last: jax.Array, beta2: jax.Array | None
) -> jax.Array:
    """Return whether the recomputed x_0 is the true one, and say if it is not."""
    size, end, error = (jnp.linalg.norm(x.ravel()) for x in (x0, last, recomputed - x0))
    # Of x_0 = 0 everything would be an infinite part.
    scale = jnp.where(size == 0, end, size)
    accurate = error <= TOLERANCE * scale  # False for NaN, too
    relative = jnp.where(accurate, 0, error / scale)
    found = (relative,) if beta2 is None else (relative, jnp.abs(beta2).min())
    jax.lax.cond(
        accurate,
        lambda: None,
        lambda: jax.debug.callback(_report_if_inaccurate, *found),
    )
    return accurate


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
