"""The driver: it knows no method and no operator."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from optnet_jax.errors import InputError, shown
from optnet_jax.kinds import check_byte_order
from optnet_jax.recurrences.base import (
    Coefficients,
    Recurrence,
    State,
    at_step,
    check_depth,
    check_recurrence,
    check_transforms,
    coefficients_of,
    number_of_paths,
    numbers,
    takes_history,
)


def iterate(
    recurrence: Recurrence,
    transform: Callable | tuple[Callable, Callable],
    x0: Any,
    depth: int,
    *,
    trajectory: bool = False,
    coefficients: Coefficients | None = None,
    weights: Any = None,
) -> Any:
    """Run ``depth`` steps of a recurrence over an operator, in one ``lax.scan``.

    >>> import jax.numpy as jnp
    >>> from optnet_jax.recurrences import heavy_ball
    >>> x = iterate(heavy_ball(0.5), lambda x: x / 2, jnp.ones(1), 2, trajectory=True)
    >>> x[:, 0].tolist()
    [1.0, 0.5, 0.0]

    Args:
        recurrence: the method.
        transform: the operator T, x ↦ T(x), shape-preserving; for two-path methods also
            a pair (T', T). With ``weights``: (x, w_k) ↦ T_k(x). A method over the whole
            history combines the T_j(x_j), each evaluated once, and is written out.
        x0: the start x_0, an array of any shape; for two-path methods also a pair
            (x'_0, x_0). Whole numbers are taken as floating-point ones.
        depth: the number of steps K.
        trajectory: return all iterates.
        coefficients: to run with others than the method's own: a dict of arrays with
            leading axis [depth] as ``recurrence.coefficients(depth)`` gives it.
        weights: a pytree of arrays with leading axis [depth], one slice for each step.

    Returns:
        ``recurrence.output`` after the last step; with ``trajectory``, after each, on a
        leading axis of depth + 1 with x_0 first.

    Raises:
        InputError: depth < 1, coefficients or weights of another length, coefficients
            that are not those of the method, an operator that changes the shape, a
            pair of operators or starts for a method of one path, or an object that is
            no recurrence.
    """
    check_recurrence(recurrence)
    depth = check_depth(depth)
    _check_operators(recurrence, transform)
    x0 = as_start(recurrence, x0)
    dtype = jax.tree.leaves(x0)[0].dtype
    coefficients = prepared(recurrence, depth, dtype, coefficients)
    _check_lengths(weights, depth, "weights")
    initial = first_state(recurrence, x0)
    if takes_history(recurrence):
        operators = _combinations(transform, depth, weights)
        outputs = run_over_history(recurrence, operators, initial, coefficients)[1]
        return jnp.stack(outputs) if trajectory else outputs[-1]

    def body(state: State, layer: tuple) -> tuple:
        c, w = layer
        state = step_in_dtype(recurrence, _bound(transform, w), state, c)
        return state, recurrence.output(state) if trajectory else None

    state, outputs = jax.lax.scan(body, initial, (coefficients, weights), depth)
    if not trajectory:
        return recurrence.output(state)
    return jnp.concatenate([recurrence.output(initial)[None], outputs])


def run_over_history(
    recurrence: Recurrence,
    operators: Iterable[Callable],
    state: State,
    coefficients: Coefficients,
) -> tuple[State, tuple]:
    """Return the last state and all outputs of a method over the whole history."""
    outputs = [recurrence.output(state)]
    for k, operator in enumerate(operators):
        state = step_in_dtype(recurrence, operator, state, at_step(coefficients, k))
        outputs.append(recurrence.output(state))
    return state, tuple(outputs)


def _combinations(transform: Any, depth: int, weights: Any) -> Iterator[Callable]:
    """Yield the combination of each step, of T_j(x_j) that are evaluated once."""
    transformed = []
    for k in range(depth):
        operator = _bound(transform, jax.tree.map(lambda a, k=k: a[k], weights))

        def combine(sources: tuple, alpha: Any = None, operator: Any = operator) -> Any:
            transformed.append(operator(sources[-1]))
            terms = jnp.stack(transformed[-len(sources) :])
            if alpha is None:
                return terms.sum(0)
            return jnp.tensordot(jnp.asarray(alpha, terms.dtype), terms, 1)

        yield combine


def as_start(recurrence: Recurrence, x0: Any) -> Any:
    """Return x_0, or the pair (x'_0, x_0), as floating-point arrays of one dtype.

    The state keeps its dtype from step to step, and in whole numbers every step would
    be rounded.

    Raises:
        InputError: a tuple that is no pair, for one path, or of unequal shapes; a list
            of arrays for two paths.
    """
    name, paths = type(recurrence).__name__, number_of_paths(recurrence)
    starts = x0 if isinstance(x0, tuple) else (x0,)
    items = [item for x in starts if isinstance(x, list) for item in x]
    if paths == 2 and any(isinstance(item, jax.Array | np.ndarray) for item in items):
        raise InputError(
            f"{name} has two paths, and a list of arrays may be a pair or one start: "
            f"give a tuple, or jnp.stack of it"
        )
    if not isinstance(x0, tuple):
        return _floating(x0)
    if paths == 1:
        raise InputError(f"{name} has one path: give it one start, an array, no tuple")
    shapes = [np.shape(x) for x in x0]
    if len(x0) != 2 or shapes[0] != shapes[1]:
        raise InputError(
            f"{name} has two paths: give it one start, or a pair of one shape, "
            f"got shapes {', '.join(map(str, shapes))}"
        )
    starts = [_floating(x) for x in x0]
    dtype = jnp.result_type(*starts)
    return tuple(x.astype(dtype) for x in starts)


def _floating(x: Any) -> jax.Array:
    check_byte_order(x, "x_0")
    try:
        x = jnp.asarray(x)
    except (TypeError, ValueError):
        raise InputError(f"x_0 must be an array of numbers, got {shown(x)}") from None
    return x if _is_inexact(x) else x.astype(float)


def first_state(recurrence: Recurrence, x0: Any, previous: Any = None) -> State:
    """Return the state at x_0, and at x_{-1} = ``previous`` if that is given.

    Raises:
        InputError: the method's state holds what is no array, or x_{-1} or the output
            has not x_0's shape.
    """
    if previous is None or not hasattr(recurrence, "restart"):
        state = recurrence.init(x0)
    else:
        if np.shape(previous) != np.shape(x0):
            raise InputError(
                f"x_0 has shape {np.shape(x0)}, x_(-1) {np.shape(previous)}: they must "
                f"be the same"
            )
        state = recurrence.restart(x0, previous)  # pyright: ignore
    name = type(recurrence).__name__
    try:
        state = jax.tree.map(jnp.asarray, state)
    except (TypeError, ValueError):
        raise InputError(
            f"the state of {name}, {shown(state)}, is no pytree of arrays: return "
            f"arrays in tuples or dicts from init"
        ) from None
    output = jax.eval_shape(recurrence.output, state)
    shape = np.shape(jax.tree.leaves(x0)[0])
    if getattr(output, "shape", None) != shape:
        shapes = jax.tree.map(np.shape, output)
        raise InputError(
            f"{name}.output returns what has shape {shown(shapes)}, x_0 has {shape}: "
            f"return an iterate, one array"
        )
    return state


def shape_preserving(transform: Callable) -> Callable:
    """Return the operator with a check of what it returns.

    Without it an operator that changes the shape would be broadcast by the sums.
    """

    def checked(x: Any) -> Any:
        y = transform(x)
        is_tree = isinstance(y, list | tuple | dict)
        shape = f"a {type(y).__name__}" if is_tree else np.shape(y)
        if shape != np.shape(x):
            raise InputError(
                f"the transform of a recurrence must preserve the shape, and this one "
                f"maps {np.shape(x)} to {shape}: change the shape between stages "
                f"instead"
            )
        if jnp.iscomplexobj(y) and not jnp.iscomplexobj(x):
            raise InputError(
                "the transform of a recurrence maps real numbers to complex ones: give "
                "a complex x_0"
            )
        return y

    return checked


def _check_operators(recurrence: Recurrence, transform: Any) -> None:
    operators = transform if isinstance(transform, tuple) else (transform,)
    paths, count = number_of_paths(recurrence), len(operators)
    if isinstance(transform, tuple) and (paths == 1 or count != 2):
        cure = "a pair, or one for both" if paths == 2 else "one, no tuple"
        raise InputError(
            f"{type(recurrence).__name__} applies T to {paths} of its iterates, and "
            f"there is a tuple of {count} operators: give it {cure}"
        )
    check_transforms(*operators)


def step_in_dtype(
    recurrence: Recurrence,
    transform: Any,
    state: State,
    c: Coefficients,
    method: Literal["step", "undo"] = "step",
) -> State:
    """Return the state after one step, or before it, in the dtypes that the state had.

    Coefficients are kept in at least float32, so a bfloat16 state would be promoted;
    a scan's carry must not change.

    Raises:
        InputError: the method returns a state of another form, looks up a name that is
            no coefficient, or combines the history with another number of α.
    """
    name = type(recurrence).__name__
    if takes_history(recurrence):
        transform = _one_each(transform, name)
    try:
        new = getattr(recurrence, method)(transform, state, c)
    except KeyError as error:
        frame = error.__traceback__ and error.__traceback__.tb_next
        if frame is None or frame.tb_next is not None:
            raise  # of what the step calls
        raise InputError(
            f"{name}.{method} looks up {error}, and {name}.coefficients returns a dict "
            f"of {', '.join(c) or 'nothing'}"
        ) from None
    if takes_history(recurrence):  # the new iterate has no old one in its place
        dtype = jnp.result_type(*filter(_is_inexact, jax.tree.leaves(state)))
        new = jax.tree.map(jnp.asarray, new)  # a count may be a Python number
        return jax.tree.map(lambda x: x.astype(dtype) if _is_inexact(x) else x, new)
    return _in_form(new, state, f"{name}.{method}")


def _one_each(transform: Callable, name: str) -> Callable:
    """Return the combination of a history with a check of its α."""

    def combine(sources: tuple, alpha: Any = None) -> Any:
        if alpha is not None and np.shape(alpha)[:1] != (len(sources),):
            raise InputError(
                f"{name}.step combines {len(sources)} iterates with alpha of shape "
                f"{np.shape(alpha)}: it must have a number for each"
            )
        return transform(sources, alpha)

    return combine


def _in_form(new: State, old: State, what: str) -> State:
    """Return a state in the dtypes of an earlier one.

    Raises:
        InputError: it has another structure or other shapes.
    """
    for kind, form in (("shapes", _shapes), ("structure", jax.tree.structure)):
        found, expected = form(new), form(old)
        if found != expected:
            raise InputError(
                f"{what} returns a state of another form than it takes: {kind} "
                f"{shown(found)} instead of {shown(expected)}"
            )
    return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), new, old)


def _shapes(state: State) -> tuple:
    return tuple(map(np.shape, jax.tree.leaves(state)))


def _is_inexact(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def prepared(
    recurrence: Recurrence,
    depth: int,
    dtype: Any,
    given: Coefficients | None = None,
) -> Coefficients:
    """Return the coefficients of all steps, arrays of ``dtype``, at least float32.

    What is known before anything is traced stays a NumPy array, see :func:`scaled`.
    Those over the whole history stay as they are: one that is 0 or 1 needs no product.
    Those that are ``given`` take the place of the method's own.

    Raises:
        InputError: they are not those of the method, or what is no number does not have
            an entry for each step.
    """
    name, own = type(recurrence).__name__, coefficients_of(recurrence, depth)
    if not isinstance(own, Mapping) or not all(isinstance(key, str) for key in own):
        raise InputError(
            f"{name}.coefficients must return a dict of arrays by name, got "
            f"{shown(own)}"
        )
    for key, value in own.items():
        for row in jax.tree.leaves(value):
            if not isinstance(row, Tracer):  # there are no numbers yet
                numbers(f"{name}.coefficients[{key!r}]", row)
    coefficients = own if given is None else given
    if not isinstance(coefficients, Mapping) or set(coefficients) != set(own):
        found = coefficients if isinstance(coefficients, Mapping) else ()
        raise InputError(
            f"the coefficients of {name} are a dict of "
            f"{', '.join(own) or 'nothing'}; got {', '.join(map(str, found)) or 'none'}"
        )
    if takes_history(recurrence):
        for key, value in coefficients.items():
            is_number = not isinstance(value, tuple | list) and not np.ndim(value)
            if not is_number and len(value) != depth:
                raise InputError(
                    f"coefficients[{key!r}] is for {len(value)} steps, depth is {depth}"
                )
        return coefficients
    dtype = jnp.promote_types(dtype, jnp.float32)
    coefficients = {
        key: (c if isinstance(c, jax.Array) else numbers(f"coefficients[{key!r}]", c))
        for key, c in coefficients.items()
    }
    _check_lengths(coefficients, depth, "coefficients")
    return {key: c.astype(dtype) for key, c in coefficients.items()}


def _check_lengths(tree: Any, depth: int, name: str) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.ndim(leaf) == 0 or leaf.shape[0] != depth:
            raise InputError(
                f"{name}{jax.tree_util.keystr(path)} has shape {np.shape(leaf)}: its "
                f"leading axis must be the depth, {depth}"
            )


def _bound(transform: Any, w: Any) -> Any:
    """Return the operator, or both, of a step with the weights w, if there are any."""
    if isinstance(transform, tuple):
        return tuple(_bound(t, w) for t in transform)
    return shape_preserving(transform if w is None else lambda x: transform(x, w))
