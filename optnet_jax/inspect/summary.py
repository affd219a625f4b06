"""A network as a table: shapes, parameters, multiply-adds, coefficients, memory."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.inspect.cost import Cost, cost, count_parameters

HEADER = ("part", "output", "parameters", "multiply-adds", "method")


def summarize(
    module: nn.Module, image_shape: tuple[int, ...], batch_size: int = 64
) -> str:
    """Describe a network part by part; nothing is allocated or run.

    The memory is what training keeps from step to step and from the forward to the
    backward pass, for SGD with momentum; what a backward pass needs for a moment comes
    on top.

    Args:
        module: a network.
        image_shape: (H, W, C).
        batch_size: the number of images that the memory is estimated for.

    Returns:
        Several lines.

    Raises:
        InputError: images that do not fit the network.
    """
    found, outputs, methods = _traced(module, image_shape)
    params = found.variables["params"]
    rows: list[Sequence[str]] = [HEADER]
    total = rest = (found.parameters, found.multiply_adds)
    for part, shape in outputs.items():
        if part not in params and not methods.get(part):
            continue
        own = (count_parameters(params.get(part, {})), found.parts.get(part, 0))
        rows.append((part, shape, *_numbers(own), methods.get(part, "")))
        rest = (rest[0] - own[0], rest[1] - own[1])
    if any(rest):  # what the network has and computes itself
        rows.append(("the rest", "", *_numbers(rest), ""))
    rows.append(("total", "", *_numbers(total), ""))
    title = f"{type(module).__name__} for images of {_shape(image_shape)}"
    memory = _memory(module, found.variables, image_shape, batch_size)
    return "\n".join([title, "", *_table(rows), "", memory])


def activation_bytes(
    module: nn.Module, variables: Any, image_shape: tuple[int, ...], batch_size: int
) -> int:
    """Return the bytes that a training step keeps for its backward pass."""

    def residuals(variables: Any, images: jax.Array, key: jax.Array) -> Any:
        def logits(params: Any) -> tuple:
            return module.apply(
                {**variables, "params": params},
                images,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )

        return jax.vjp(logits, variables["params"], has_aux=True)[1]

    images = jax.ShapeDtypeStruct((batch_size, *image_shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    jaxpr = jax.make_jaxpr(residuals)(variables, images, key).jaxpr
    # Weights and images are there anyway; an array kept for two uses is one array.
    kept = {v for v in jaxpr.outvars if not hasattr(v, "val")} - set(jaxpr.invars)
    return count_bytes([variable.aval for variable in kept])


def _memory(
    module: nn.Module, variables: Any, image_shape: tuple[int, ...], batch_size: int
) -> str:
    weights = 3 * count_bytes(variables["params"]) + count_bytes(
        variables.get("batch_stats", {})
    )
    activations = activation_bytes(module, variables, image_shape, batch_size)
    return (
        f"training memory at batch {batch_size}: about "
        f"{(weights + activations) / 2**20:,.1f} MiB\n"
        f"  parameters, gradient, momentum, statistics  {weights / 2**20:,.1f} MiB\n"
        f"  activations kept for the backward pass      {activations / 2**20:,.1f} MiB"
    )


def _traced(
    module: nn.Module, image_shape: tuple[int, ...]
) -> tuple[Cost, dict[str, str], dict[str, str]]:
    """Return the cost, the output shapes of the submodules in order, their methods.

    A module that runs a method says so by ``described``, as a propagation does.
    """
    outputs: dict[str, str] = {}
    methods: dict[str, list[str]] = {}

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        path = module.path if context.method_name == "__call__" else ()
        if not path:
            return call(*args, **kwargs)
        text = module.described() if hasattr(module, "described") else ""
        if text and text not in methods.setdefault(path[0], []):
            methods[path[0]].append(text)
        result = call(*args, **kwargs)
        if len(path) == 1:
            outputs[path[0]] = _shapes(result)
        return result

    with nn.intercept_methods(record):
        found = cost(module, image_shape)
    return found, outputs, {part: "; ".join(texts) for part, texts in methods.items()}


def _shapes(result: Any) -> str:
    """Return the shapes of one image's arrays, equal neighbours counted."""
    shapes = [_shape(leaf.shape[1:]) for leaf in jax.tree.leaves(result)]
    if len(shapes) == 1:
        return shapes[0]
    if len(set(shapes)) == 1:
        return f"{len(shapes)} x ({shapes[0]})"
    rest = shapes[1:]
    if len(set(rest)) == 1:
        return f"{shapes[0]} + {len(rest)} x ({rest[0]})"
    return ", ".join(shapes)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def count_bytes(tree: Any) -> int:
    """Return the bytes of a tree of arrays or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _numbers(numbers: tuple[int, ...]) -> list[str]:
    return [f"{number:,}" for number in numbers]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if 2 <= i <= 3 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
