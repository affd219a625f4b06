"""What a network costs, read off its shapes: nothing is allocated or run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def abstract_variables(module: nn.Module, image_shape: tuple[int, ...]) -> Any:
    """Return the shapes of a network's variables.

    Args:
      module: a network.
      image_shape: (H, W, C).

    Returns:
      The tree of ``module.init`` with ``jax.ShapeDtypeStruct`` leaves.
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), images)


def count_parameters(params: Any) -> int:
    """Return the number of entries of a tree of arrays or of their shapes.

    Args:
      params: such as ``variables["params"]``.
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def multiply_adds(module: nn.Module, image_shape: tuple[int, ...]) -> int:
    """Return the multiply-adds that one more image costs in evaluation.

    Convolutions and matrix products count, as usual; what is elementwise does not, nor
    what is done once for the whole batch, such as preparing coefficients.

    Args:
      module: a network.
      image_shape: (H, W, C).
    """
    variables = abstract_variables(module, image_shape)

    def batch(size: int) -> int:
        images = jax.ShapeDtypeStruct((size, *image_shape), jnp.float32)
        jaxpr = jax.make_jaxpr(lambda v, x: module.apply(v, x, train=False))
        return count_multiply_adds(jaxpr(variables, images).jaxpr)

    return batch(2) - batch(1)


def count_multiply_adds(jaxpr: Any) -> int:
    """Return the multiply-adds of a jaxpr's convolutions and matrix products.

    The body of a scan counts once for each step, the branches of a conditional as the
    dearest of them.

    Args:
      jaxpr: as ``jax.make_jaxpr(function)(...).jaxpr`` gives it.
    """
    total = 0
    for equation in jaxpr.eqns:
        name, inner = equation.primitive.name, list(_inner(equation))
        if name == "conv_general_dilated":
            total += _convolution(equation)
        elif name == "dot_general":
            total += _product(equation)
        elif name == "cond":
            total += max(map(count_multiply_adds, inner))
        elif inner:
            steps = equation.params["length"] if name == "scan" else 1
            total += steps * sum(map(count_multiply_adds, inner))
    return total


def _inner(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if hasattr(item, "eqns"):
                yield item
            elif hasattr(item, "jaxpr"):
                yield item.jaxpr


def _convolution(equation: Any) -> int:
    kernel = equation.invars[1].aval.shape
    features = equation.params["dimension_numbers"].rhs_spec[0]
    return math.prod(equation.outvars[0].aval.shape) * (
        math.prod(kernel) // kernel[features]
    )


def _product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(
        shape[axis] for axis in contracted
    )
