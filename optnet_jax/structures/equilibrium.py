"""Equilibrium networks: the limit x* of a recurrence instead of its K-th iterate.

For 0 ⪯ W ⪯ (1 - μ) I and Φ nonexpansive and increasing, x* = Φ(W x* + b) is the one
minimiser of F(x) = xᵀ(I - W)x / 2 - bᵀx + ψ(x), Φ = prox_ψ, of condition number 1/μ at
most. It does not depend on the method; how soon a method comes near it does.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core.scope import CollectionFilter, subtract_filters

from optnet_jax.errors import InputError
from optnet_jax.recurrences import Recurrence
from optnet_jax.recurrences.base import (
    check_recurrence,
    check_transforms,
    takes_history,
)
from optnet_jax.recurrences.iterate import (
    as_start,
    first_state,
    prepared,
    shape_preserving,
    step_in_dtype,
)
from optnet_jax.structures import fields

_LOGGER = logging.getLogger(__name__)


class Equilibrium(nn.Module):
    """x_0 ↦ x* = T(x*), found by a recurrence in one loop of constant memory.

    >>> import jax, jax.numpy as jnp
    >>> from optnet_jax.recurrences import heavy_ball
    >>> network = Equilibrium(heavy_ball(0.2), lambda x, b: x / 2 + b)
    >>> network.apply({}, jnp.zeros(2), jnp.ones(2)).round(3).tolist()
    [2.0, 2.0]

    The loop ends when ‖T(x) - x‖ ≤ tolerance ‖x‖ for every sample, an entry of axis 0
    where x has more than one axis; one that has converged stays as it is. After the
    last step T is evaluated once more, at x*: where T mixes the samples and one has
    been moved beyond twice the tolerance since, all go on. Each step evaluates T at the
    iterate, and once more where the method evaluates it elsewhere: Nesterov's does, its
    form as a sum does not.

    With J = ∂T/∂x at x*, a derivative solves v = J v + ∂T and the gradient
    u = Jᵀu + g: fixed points again, for the same recurrence, tolerance and number of
    steps. No iterate is stored; derivatives exist in both modes, but none to x_0.

    T is deterministic; what it sows or updates, such as running statistics, is taken
    from one evaluation at x*, in ``init`` at x_0. Where the recurrence does not
    converge, a line of the log says so, once for each cause in a compiled program; a
    sample that became NaN or infinite is NaN, as is its residual. Sows ``steps`` and
    ``residual``, of each sample, into ``intermediates``.

    Attributes:
        recurrence: the method; none over the whole history, whose state grows.
        transform: T, (x, *inputs, **named) ↦ an array of x's shape: a linen module, or
            a function.
        tolerance: of the relative residual; at least the two units of rounding of x
            and T(x) that can be told.
        max_steps: the most steps, after which x is returned as it is.
    """

    recurrence: Recurrence
    transform: Callable[..., Any]
    tolerance: fields.Fraction = 1e-5
    max_steps: fields.AtLeastOne = 1000

    def __post_init__(self):
        fields.check(Equilibrium, vars(self))
        check_recurrence(self.recurrence)
        if takes_history(self.recurrence):
            raise InputError(
                f"{type(self.recurrence).__name__} takes the whole history, which "
                f"grows without end: give a method of one state, such as NesterovSum"
            )
        check_transforms(self.transform)
        super().__post_init__()

    @nn.compact
    def __call__(self, x0: Any, *inputs: Any, **named: Any) -> jax.Array:
        """Return x*, of the shape and dtype of x_0.

        Args:
            x0: where to start, an array: zeros, or a former x* as a warm start.
            inputs: pytrees that T takes after x, such as the image's b.
            named: likewise, by name, as in
                :class:`~optnet_jax.structures.Propagation`.

        Raises:
            InputError: a pair x_0, or a transform that changes the shape.
        """
        x0 = as_start(self.recurrence, x0)
        if isinstance(x0, tuple):
            raise InputError("both paths end in one x*: give one start, no pair")
        transform = self._pure(x0, inputs, named)
        x, steps, residual = self._fixed_point(transform, x0)
        if self._mutable() and not self.is_initializing():  # _pure has called it
            self.transform(x, *inputs, **named)
        self.sow("intermediates", "steps", steps)
        self.sow("intermediates", "residual", residual)
        return x

    def described(self) -> str:
        """Return the method and the number of its steps; a summary counts one."""
        name = type(self.recurrence).__name__
        return f"up to {self.max_steps} steps of {name}, of which one is counted"

    def _fixed_point(self, transform: Callable, x0: jax.Array) -> tuple:
        """Return x*, with its implicit derivative, and ``steps`` and ``residual``."""
        coefficients = prepared(self.recurrence, self.max_steps, x0.dtype)
        run = functools.partial(
            _run,
            self.recurrence,
            jax.tree.map(jnp.asarray, coefficients),
            self.tolerance,
            self.max_steps,
        )
        transform = shape_preserving(transform)

        def root(x: jax.Array) -> jax.Array:
            return transform(x).astype(x.dtype) - x

        def find(_: Callable, start: jax.Array) -> tuple:
            x, *found = run(transform, start, "x*")
            return x, tuple(found)

        def solve(difference: Callable, y: jax.Array) -> jax.Array:
            """Solve J v - v = y, as the fixed point of v ↦ J v - y."""
            return run(lambda v: difference(v) + v - y, -y, "a derivative of x*")[0]

        def tangent(difference: Callable, y: jax.Array) -> jax.Array:
            return jax.lax.custom_linear_solve(
                difference, y, solve, transpose_solve=solve
            )

        x, found = jax.lax.custom_root(root, x0, find, tangent, has_aux=True)
        return x, *found

    def _mutable(self) -> CollectionFilter:
        """Return the collections that T may change, besides its parameters."""
        if not isinstance(self.transform, nn.Module) or self.scope is None:
            return ()
        return subtract_filters(self.scope.mutable, "params")

    def _pure(self, x0: jax.Array, inputs: tuple, named: dict[str, Any]) -> Callable:
        """Return x ↦ T(x) without side effects: a loop may trace it as it likes."""
        if not isinstance(self.transform, nn.Module):
            return lambda x: self.transform(x, *inputs, **named)
        if self.is_initializing():
            self.transform(x0, *inputs, **named)
        module, variables = self.transform.unbind()
        mutable = self._mutable()
        apply = functools.partial(module.apply, variables, mutable=mutable, **named)
        return lambda x: apply(x, *inputs)[0]


def _run(
    recurrence: Recurrence,
    coefficients: Any,
    tolerance: float,
    max_steps: int,
    transform: Callable,
    x0: jax.Array,
    what: str,
) -> tuple:
    """Run the recurrence until every sample has converged, NaN, or out of steps."""
    axes = tuple(range(x0.ndim))[x0.ndim > 1 :]
    dtypes = x0.dtype, jax.eval_shape(transform, x0).dtype
    told = 2 * max(float(jnp.finfo(dtype).eps) for dtype in dtypes)
    tolerance = max(tolerance, told)

    def norm(x: jax.Array) -> jax.Array:
        at_least = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return jnp.sqrt(jnp.sum(jnp.abs(at_least) ** 2, axes)).astype(jnp.float32)

    def relative(x: jax.Array) -> jax.Array:
        """Return ‖T(x) - x‖ / ‖x‖ of each sample."""
        step = transform(x) - x
        # In units of the largest entry, as squares would be 0 or infinite; of a quarter
        # of it, as XLA multiplies by 1 / unit, and takes a subnormal number for 0.
        largest = (jnp.abs(v).max(axes, keepdims=True, initial=0) for v in (x, step))
        unit = jnp.maximum(*largest) / 4
        unit = jnp.where(unit > 0, unit, 1)
        moved, size = norm(step / unit), norm(x / unit)
        return jnp.where(moved == 0, 0, moved / size)

    def unfinished(carry: tuple) -> jax.Array:
        k, _, _, residual, *_ = carry
        return (k <= max_steps) & jnp.any(residual > tolerance)

    def look_and_step(carry: tuple) -> tuple:
        k, state, x, residual, steps, halfway = carry
        active = residual > tolerance  # False for NaN
        x_k = recurrence.output(state)
        residual = jnp.where(active, relative(x_k), residual)
        halfway = jnp.where(k == max_steps // 2, residual, halfway)
        steps = jnp.where(active, k, steps).astype(jnp.float32)
        x = jnp.where(jnp.expand_dims(active, axes), x_k, x)
        c = jax.tree.map(lambda values: values[k], coefficients)
        # XLA evaluates T(x_k) once, for the residual and for the step.
        state = step_in_dtype(recurrence, transform, state, c)
        return k + 1, state, x, residual, steps, halfway

    def look_again(carry: tuple) -> tuple:
        """Let all go on if some have moved others since, where T mixes the samples."""
        k, state, x, residual, steps, halfway = jax.lax.while_loop(
            unfinished, look_and_step, carry
        )
        again, converged = relative(x), residual <= tolerance
        # Another rounding alone moves none.
        moved = converged & ~(again <= 2 * tolerance)
        # Then all go on: of different steps they are no iterate, and never settle.
        others = converged & jnp.any(moved) & (k <= max_steps)
        residual = jnp.where(others, 2 * tolerance, residual)
        residual = jnp.where(moved, again, residual)
        return k, state, x, residual, steps, jnp.where(moved, jnp.inf, halfway)

    unknown = jnp.full_like(norm(x0), jnp.inf)
    state = first_state(recurrence, x0)
    start = (0, state, x0, unknown, jnp.zeros_like(unknown), unknown)
    carry = jax.lax.while_loop(unfinished, look_again, start)
    _, _, x, residual, steps, halfway = carry
    # Where T is NaN at x_k, x_k itself may be finite.
    x = jnp.where(jnp.expand_dims(jnp.isnan(residual), axes), jnp.nan, x)
    if not isinstance(residual.size, int):
        # A program for any number of samples is exported: it can call no Python.
        return x, steps, residual
    late = residual > tolerance
    stuck = late & ~(residual < 0.9 * halfway)
    failed = [jnp.sum(which) for which in (jnp.isnan(residual), stuck, late & ~stuck)]
    report = functools.partial(_report, what, residual.size, max_steps, set())
    jax.lax.cond(
        sum(failed) > 0, lambda: jax.debug.callback(report, *failed), lambda: None
    )
    return x, steps, residual


def _report(
    what: str, samples: int, max_steps: int, said: set, nan: Any, stuck: Any, late: Any
) -> None:
    """Log how many samples have failed, and why, if a cause is there that is new."""
    causes = (
        (nan, "became NaN or infinite"),
        (
            stuck,
            "came no nearer: T is no contraction, or this method does not converge",
        ),
        (late, f"needs more than {max_steps} steps: raise max_steps or the tolerance"),
    )
    found = {words: count for count, words in causes if count}
    if found.keys() <= said:  # so is nothing: vmap runs both branches of a conditional
        return
    said.update(found)
    parts = "; ".join(f"{count} {words}" for words, count in found.items())
    _LOGGER.error("%s not found: of %d sample(s) %s", what, samples, parts)
