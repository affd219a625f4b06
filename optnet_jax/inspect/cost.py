"""What a network costs, read off its shapes: nothing is allocated or run."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from clu import parameter_overview
from flax import linen as nn


class Cost(NamedTuple):
    """What one trace of a network tells.

    Attributes:
        variables: the tree of ``module.init`` with ``jax.ShapeDtypeStruct`` leaves.
        parameters: the number of trainable parameters.
        multiply_adds: of one image's forward pass in evaluation. Convolutions and
            matrix products count, as usual; what is elementwise does not, nor what does
            not depend on the image, such as the preparation of coefficients.
        parts: the multiply-adds of each of the network's own submodules, by name, and
            of the network itself, by an empty one.
    """

    variables: Any
    parameters: int
    multiply_adds: int
    parts: dict[str, int]


def cost(module: nn.Module, image_shape: tuple[int, ...]) -> Cost:
    """Return what a network costs; image_shape is (H, W, C)."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    trace = jax.make_jaxpr(module.init_with_output, return_shape=True)
    jaxpr, (_, variables) = trace(key, images)
    parts = dict.fromkeys(variables["params"], 0)
    total, dependent = 0, set(jaxpr.jaxpr.invars[1:])
    for equation in jaxpr.jaxpr.eqns:
        if not any(_is_in(variable, dependent) for variable in equation.invars):
            continue
        dependent.update(equation.outvars)
        multiply_adds = _cost(equation)
        total += multiply_adds
        if not multiply_adds:
            continue
        # linen traces each submodule under its name, and a method as module.method.
        scopes = str(equation.source_info.name_stack).split("/")[1:]
        inner = [scope for scope in scopes if "." not in scope] or [""]
        part = next((scope for scope in inner if scope in parts), inner[0])
        parts[part] = parts.get(part, 0) + multiply_adds
    return Cost(variables, count_parameters(variables["params"]), total, parts)


def count_parameters(params: Any) -> int:
    """Return the number of entries of a tree of arrays or of their shapes."""
    return int(parameter_overview.count_parameters(params))


def count_multiply_adds(jaxpr: Any) -> int:
    """Return the multiply-adds of a jaxpr's convolutions and matrix products.

    The body of a scan counts once for each step, that of a loop of unknown length once,
    the branches of a conditional as the dearest of them, those of a choice by platform
    as the default one.

    Args:
        jaxpr: as ``jax.make_jaxpr(function)(...).jaxpr`` gives it.
    """
    return sum(map(_cost, jaxpr.eqns))


def _cost(equation: Any) -> int:
    name, inner = equation.primitive.name, list(_inner(equation))
    if name == "conv_general_dilated":
        return _convolution(equation)
    if name == "dot_general":
        return _product(equation)
    if not inner:
        return 0
    costs = [count_multiply_adds(jaxpr) for jaxpr in inner]
    if name == "cond":
        # A CPU's form of a layer may need more or fewer products than its definition,
        # which is the default.
        platforms = equation.params.get("branches_platforms") or ()
        return costs[platforms.index(None)] if None in platforms else max(costs)
    return sum(costs) * (equation.params["length"] if name == "scan" else 1)


def _inner(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            # jax.lax.custom_root has it inside a primitive of its own from JAX 0.12 on.
            item = getattr(item, "solve_jaxpr", item)
            if hasattr(item, "eqns"):
                yield item
            elif hasattr(item, "jaxpr"):
                yield item.jaxpr


def _is_in(variable: Any, variables: set) -> bool:
    return not hasattr(variable, "val") and variable in variables  # no literal


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
