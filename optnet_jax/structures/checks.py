"""What a propagation refuses: fields that do not fit the recurrence or one another."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from optnet_jax.errors import InputError
from optnet_jax.kinds import misfit
from optnet_jax.recurrences import (
    Coefficients,
    Recurrence,
    number_of_paths,
    takes_history,
)
from optnet_jax.recurrences.base import check_transforms, coefficients_of
from optnet_jax.recurrences.iterate import first_state, prepared
from optnet_jax.structures.layer import EachLayer, in_turn, part_of


def check_skips(recurrence: Recurrence, steps: int) -> None:
    """Refuse to drop the transforms of a method that has nothing beside them.

    Args:
        recurrence: the method.
        steps: how many it takes.

    Raises:
        InputError: if a step without its transform forgets what it has been given.
    """
    if not steps:
        return
    if not takes_history(recurrence):
        with jax.ensure_compile_time_eval():
            coefficients = prepared(recurrence, steps, jnp.float32)
            parts, form = jax.tree.flatten(first_state(recurrence, jnp.ones(1)))
            # Powers of e, no multiples of which add up to 0 by chance.
            parts = [math.e**i * part for i, part in enumerate(parts)]
            states = [  # an activation after the sum may cut one off
                jax.tree.unflatten(form, [sign * part for part in parts])
                for sign in (1, -1)
            ]

            def keeps(c: Coefficients) -> bool:
                new = (recurrence.step(jnp.zeros_like, state, c) for state in states)
                ends = map(recurrence.output, new)
                return any(isinstance(end, Tracer) or np.any(end) for end in ends)

            # Steps with the same coefficients, as a rule all, are tried once.
            each = (part_of(coefficients, k) for k in range(steps))
            if all(map(keeps, {str(c): c for c in each}.values())):
                return
    raise InputError(
        f"drop_path needs a method whose every step keeps its iterate without its T, "
        f"and this {type(recurrence).__name__} is none: leave it 0"
    )


def check_constant(recurrence: Recurrence, depth: int, name: str) -> None:
    """Refuse to share a coefficient that differs from layer to layer.

    Raises:
        InputError: if it does.
    """
    values = np.asarray(coefficients_of(recurrence, depth)[name])
    if np.any(values != values[0]):
        raise InputError(
            f"shared: {name} is not the same number in all layers to begin with: give "
            f"it one, such as {name}=1.0"
        )


def check_shared(module: Any) -> None:
    """Refuse to share coefficients none of which is trained.

    Raises:
        InputError: if it is so.
    """
    if module.shared and not module.learned:
        raise InputError(
            "shared means nothing where no coefficient is learned: give their names "
            "in learned, or leave it out"
        )


def check_operators(module: Any) -> None:
    """Check the transforms of a propagation, and how many it has for its layers.

    Raises:
        InputError: what is no transform, or does not go with the recurrence.
    """
    method, each = module.recurrence, module.transform
    name, history = type(method).__name__, takes_history(method)
    if module.separate_paths and number_of_paths(method) == 1 and not history:
        raise InputError(
            f"separate_paths needs a two-path recurrence, and {name} has one path"
        )
    layers = each.transforms if isinstance(each, EachLayer) else (each,)
    if isinstance(each, EachLayer):
        if len(layers) != module.depth:
            raise InputError(
                f"there are transforms for {len(layers)} layers, depth is "
                f"{module.depth}"
            )
        if module.tied or not (module.unroll or history):
            raise InputError(
                "layers with a transform of its own kind each are neither tied nor "
                "scanned: give unroll=True, and neither tied nor reversible"
            )
    for transform in layers:
        if isinstance(transform, tuple) and (number_of_paths(method) > 1 or history):
            raise InputError(
                f"{name} takes one transform, several in turn are for methods of one "
                f"path and one iterate: for weights of its own in each path give one "
                f"module and separate_paths=True"
            )
        check_transforms(*in_turn(transform) or (None,))


def check_history(module: Any) -> None:
    """Check a propagation whose recurrence takes the whole history.

    Raises:
        InputError: fields that mean nothing there, or a T that takes one iterate.
    """
    name, transform = type(module.recurrence).__name__, module.of_layer()
    if module.tied or module.separate_paths or module.shared:
        raise InputError(
            f"{name} takes the whole history, which grows: its layers are neither "
            f"tied nor paths, nor are its coefficients shared: leave these at False"
        )
    if misfit(transform, (), None):
        t = getattr(transform, "__name__", type(transform).__name__)
        raise InputError(
            f"{name} takes the whole history, and {t} is no function of (sources, "
            f"alpha): give Pairwise({t}(...))"
        )


def check_reversible(
    module: Any, method: Recurrence, several: bool, drop_path: Any = 0.0
) -> None:
    """Check a propagation, or a network of them, that is to be run backwards.

    Args:
        module: has the fields ``tied``, ``unroll`` and ``remat``.
        method: the recurrence.
        several: its transforms are several in turn.
        drop_path: of the propagation; a network has it in training alone.

    Raises:
        InputError: its method cannot be undone, or a field stores its iterates.
    """
    if not hasattr(method, "undo"):
        raise InputError(
            f"reversible needs the heavy ball (16), RevNet's Coupled or another "
            f"method with an undo; {type(method).__name__} has no such form"
        )
    if module.tied or module.unroll or module.remat or drop_path:
        raise InputError(
            "reversible excludes tied, unroll, remat and drop_path: it scans "
            "layers with weights of their own, stores no iterate and drops none"
        )
    if several:
        raise InputError(
            "reversible excludes transforms in turn: give one module of them"
        )
    beta2 = getattr(method, "beta2", -1.0)
    if not isinstance(beta2, Tracer) and not np.all(beta2):
        raise InputError(
            "reversible needs beta2 != 0 in every step: x_(k-1) is solved for by "
            "dividing by it. Use remat=True to save memory instead"
        )
    if getattr(method, "post_activation", None) is not None:
        raise InputError(
            "reversible needs post_activation=None: an activation of the sum "
            "cannot be undone"
        )
