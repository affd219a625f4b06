"""A gradient written by hand that leaves forward-mode differentiation possible.

A function with ``jax.custom_vjp`` has no ``jax.jvp``, so no ``jacfwd`` and no
``hessian``. Here the derivative is an operation of its own, linear in the tangents:
where it is computed it is autodiff's, and its transpose is the gradient by hand.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.dtypes import float0
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Linear = Callable[[Sequence[Any], Sequence[Any]], list]
"""(known values, vectors) ↦ vectors, linear in the second."""


def with_gradient(function: Callable, forward: Callable, backward: Callable) -> Any:
    """Return a function with a gradient by hand, stated as for ``jax.custom_vjp``.

    Args:
        function: of pytrees of arrays. It must not close over a traced value.
        forward: the same arguments ↦ (the function's value, residuals).
        backward: (residuals, cotangents of the value) ↦ the gradients with respect to
            the arguments, a tuple; None where one is 0.

    Returns:
        The function. Its derivatives in forward mode and the second ones are those that
        JAX derives of ``function`` and of ``backward``.
    """
    run = jax.custom_jvp(function)

    @run.defjvp
    def derivative(primals: tuple, tangents: tuple) -> tuple:
        value, residuals = forward(*primals)
        known, known_tree = jax.tree.flatten((primals, residuals))
        # Inside jax.shard_map. The gradient of what is there on all devices alike, such
        # as parameters, is the sum over them: that is the transpose of this cast.
        axes = frozenset().union(*map(_varying, known))
        known = [_cast(value, axes) for value in known]
        tangents = jax.tree.map(lambda tangent: _cast(tangent, axes), tangents)
        source, target = Space(tangents), Space(value)
        zeros = [Space(argument) for argument in tangents]

        def forwards(known: Sequence[Any], vectors: Sequence[Any]) -> list:
            primals, _ = known_tree.unflatten(known)
            moved = source.tree(vectors)
            return target.vectors(jax.jvp(function, primals, moved)[1])

        def backwards(known: Sequence[Any], vectors: Sequence[Any]) -> list:
            _, residuals = known_tree.unflatten(known)
            gradients = backward(residuals, target.tree(vectors))
            return [
                leaf
                for space, gradient in zip(zeros, gradients, strict=True)
                for leaf in (
                    space.zeros() if gradient is None else space.vectors(gradient)
                )
            ]

        moved = _linear.bind(
            *known,
            *source.vectors(tangents),
            function=forwards,
            transpose=backwards,
            known=len(known),
            outputs=target.avals,
        )
        return value, target.tree(moved)

    return run


class Space:
    """The vector space of the tangents of a pytree: its leaves of real numbers.

    The tangents of the others, whole numbers, are float0 zeros.
    """

    def __init__(self, like: Any):
        leaves, self._structure = jax.tree.flatten(like)
        self._shapes = [np.shape(leaf) for leaf in leaves]
        self._moves = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]
        self.avals = tuple(
            jax.typeof(leaf).update(weak_type=False) for leaf in self._moving(leaves)
        )

    def _moving(self, leaves: Sequence[Any]) -> list:
        return [x for x, moves in zip(leaves, self._moves, strict=True) if moves]

    def vectors(self, tree: Any) -> list:
        """Return the tangents of the leaves of real numbers."""
        vectors = self._moving(jax.tree.leaves(tree))
        return list(map(_cast, vectors, map(_varying, self.avals)))

    def zeros(self) -> list:
        """Return those of the zero of the space."""
        zeros = [jnp.zeros(aval.shape, aval.dtype) for aval in self.avals]
        return list(map(_cast, zeros, map(_varying, self.avals)))

    def tree(self, vectors: Sequence[Any]) -> Any:
        """Return the pytree of which these are the vectors."""
        rest = iter(vectors)
        leaves = [
            next(rest) if moves else np.zeros(shape, float0)
            for shape, moves in zip(self._shapes, self._moves, strict=True)
        ]
        return self._structure.unflatten(leaves)


def _varying(x: Any) -> frozenset:
    """Return the axes of ``jax.shard_map`` along which a value differs."""
    aval = x if isinstance(x, ShapedArray) else jax.typeof(x)
    return aval.mat.varying


def _cast(x: Any, axes: frozenset) -> Any:
    """Return x, as one that may differ along all these axes."""
    if not axes or x.dtype == float0:
        return x
    missing = tuple(axes - _varying(x))
    return lax.pcast(x, missing, to="varying") if missing else x


# An operation with operands (known values, vectors) and what JAX asks of one.
_linear = Primitive("linear_with_transpose")
_linear.multiple_results = True


def _compute(*operands: Any, function: Linear, known: int, **_: Any) -> list:
    return function(operands[:known], operands[known:])


_linear.def_impl(_compute)
_linear.def_abstract_eval(lambda *_, outputs, **__: outputs)
mlir.register_lowering(_linear, mlir.lower_fun(_compute, multiple_results=True))


def _transposed(cotangents: Sequence[Any], *operands: Any, **parameters: Any) -> list:
    known = parameters["known"]
    vectors = operands[known:]
    avals = [v.aval if ad.is_undefined_primal(v) else jax.typeof(v) for v in vectors]
    gradients = _linear.bind(
        *operands[:known],
        *map(ad.instantiate_zeros, cotangents),
        function=parameters["transpose"],
        transpose=parameters["function"],
        known=known,
        outputs=tuple(aval.update(weak_type=False) for aval in avals),
    )
    # A vector that is known is the constant 0 and asks for no gradient.
    return [None] * known + [
        gradient if ad.is_undefined_primal(vector) else None
        for vector, gradient in zip(vectors, gradients, strict=True)
    ]


ad.primitive_transposes[_linear] = _transposed


def _differentiated(
    operands: Sequence[Any], tangents: Sequence[Any], **parameters: Any
) -> tuple:
    known, function = parameters["known"], parameters["function"]
    values, vectors = operands[:known], operands[known:]
    results = _linear.bind(*operands, **parameters)
    moved = [ad.Zero(aval) for aval in parameters["outputs"]]
    if not all(type(t) is ad.Zero for t in tangents[known:]):
        directions = map(ad.instantiate_zeros, tangents[known:])
        moved = _linear.bind(*values, *directions, **parameters)
    places = [i for i in range(known) if type(tangents[i]) is not ad.Zero]
    if places:

        def at(moving: Sequence[Any]) -> list:
            values = list(operands[:known])
            for i, value in zip(places, moving, strict=True):
                values[i] = value
            return function(values, vectors)

        primals, directions = ([of[i] for i in places] for of in (operands, tangents))
        _, others = jax.jvp(at, (primals,), (directions,))
        moved = map(ad.add_tangents, moved, others)
    return results, list(moved)


ad.primitive_jvps[_linear] = _differentiated


def _batched(
    operands: Sequence[Any], axes: Sequence[int | None], **parameters: Any
) -> tuple:
    known = parameters["known"]
    size = next(
        x.shape[axis]
        for x, axis in zip(operands, axes, strict=True)
        if axis is not None
    )
    values = [
        x if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]
    # Vectors all have the axis, so that their cotangents have it too.
    vectors = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else x
        for x, axis in zip(values[known:], axes[known:], strict=True)
    ]
    where = ([None if axis is None else 0 for axis in axes[:known]], 0)

    def mapped(function: Linear) -> Linear:
        return lambda known, vectors: jax.vmap(function, where)(
            list(known), list(vectors)
        )

    results = _linear.bind(
        *values[:known],
        *vectors,
        function=mapped(parameters["function"]),
        transpose=mapped(parameters["transpose"]),
        known=known,
        outputs=tuple(
            aval.update(shape=(size, *aval.shape)) for aval in parameters["outputs"]
        ),
    )
    return results, [0] * len(results)


batching.primitive_batchers[_linear] = _batched
