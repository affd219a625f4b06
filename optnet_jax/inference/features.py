"""What each layer of a network makes of images, whatever form its layers have."""

from typing import Any

import jax
from flax import linen as nn

from optnet_jax.recurrences.base import takes_history
from optnet_jax.structures import Propagation, Stage

HEAD = "head"
"""The name of every network's classifier."""


def iterates_and_layers(
    network: nn.Module, variables: Any, images: jax.Array
) -> dict[str, jax.Array]:
    """Run a network and return the iterates of its recurrences and its parts' outputs.

    A stage is asked for its trajectory, whether its steps are scanned, written out or
    reversible.

    Args:
        network: Any network.
        variables: Its variables.
        images: Float [B, H, W, C], normalised.

    Returns:
        Arrays [B, ...] by name: the iterates x_0..x_K of each stage, ``stage_0/x_0``
        and so on (of a two-path method its read-out), those of a further recurrence in
        the same part under its whole path, the outputs of the other parts under their
        own names, and ``penultimate``, the input of the head.
    """
    found: dict[str, jax.Array] = {}
    inside: list[Propagation] = []
    owners: dict[str, tuple[str, ...]] = {}

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module: Any = context.module
        if context.method_name != "__call__" or not module.path or inside:
            return call(*args, **kwargs)
        if isinstance(module, Propagation):
            inside.append(module)
            output = call(*args, **kwargs)
            first = owners.setdefault(module.path[0], module.path) == module.path
            name = module.path[0] if first else "/".join(module.path)
            iterates = _iterates(module, args, kwargs, output)
            found.update({f"{name}/x_{k}": x for k, x in enumerate(iterates)})
            inside.pop()
            return output
        if len(module.path) > 1:
            return call(*args, **kwargs)
        part: str = module.path[0]
        if part == HEAD:
            found["penultimate"] = args[0]
        output: Any = call(*args, **kwargs)
        if isinstance(module, Stage) and not module.propagation.depth:
            method = module.propagation.recurrence
            x: Any = output if len(output) == 2 else output[0]
            found[f"{part}/x_0"] = method.output(method.init(x))
        elif isinstance(output, jax.Array):
            found[part] = output
        return output

    with nn.intercept_methods(record):
        network.apply(variables, images)
    return found


def _iterates(module: Propagation, args: Any, kwargs: Any, output: Any) -> Any:
    """Return x_0..x_K; the second run is merged with the first under jit."""
    if takes_history(module.recurrence):
        return output
    unbound, variables = module.unbind()
    asked = {**kwargs, "trajectory": True, "both_paths": False}
    return unbound.apply(variables, *args, **asked)
