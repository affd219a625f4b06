"""What the fields of networks may hold: a kind and a range for each name, once."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from optnet_jax.networks.dense_layer import DENSE_BLOCKS
from optnet_jax.networks.units import BLOCKS
from optnet_jax.recurrences.history_sum import NESTEROV
from optnet_jax.recurrences.two_path import Readout
from optnet_jax.structures import fields
from optnet_jax.structures.fields import (
    COEFFICIENT,
    FLAG,
    MOST_CHANNELS,
    MOST_LAYERS,
    PREVIOUS,
    Kind,
    are_finite,
    choice,
    number,
    whole,
    wholes,
)


def _is_floating(value: Any) -> bool:
    if isinstance(value, jax.Array | np.ndarray):
        return False
    try:
        return bool(jnp.issubdtype(jnp.dtype(value), jnp.floating))
    except (TypeError, ValueError):
        return False


def _is_block(value: Any) -> bool:
    known = (*BLOCKS, *DENSE_BLOCKS)
    return value in known if isinstance(value, str) else callable(value)


def _are_weights(value: Any) -> bool:
    if isinstance(value, str):
        return value == NESTEROV
    is_each = isinstance(value, tuple | list) and all(
        are_finite(v) and np.ndim(v) == 2 for v in value
    )
    return is_each or are_finite(value)


def _is_recurrence(value: Any) -> bool:
    return all(hasattr(value, name) for name in METHODS)


METHODS = ("coefficients", "init", "step", "output")
WEIGHTS = Kind(
    f"a finite number, an array of them, one for each stage, or {NESTEROV!r}",
    _are_weights,
    float,
)

FIELDS: Mapping[str, Kind] = {
    **fields.FIELDS,
    "recurrence": Kind(
        f"a recurrence, with the methods {', '.join(METHODS)}, or one for each stage",
        lambda value: all(
            map(_is_recurrence, value if isinstance(value, tuple) else (value,))
        ),
        str,
    ),
    "alpha": WEIGHTS,
    "beta": WEIGHTS,
    "num_classes": whole(1, 10**6),
    "stage_sizes": wholes(1, MOST_LAYERS),
    "widths": wholes(1, MOST_CHANNELS),
    "hidden": wholes(1, MOST_CHANNELS, empty=True),
    "growth_rate": whole(1, MOST_CHANNELS),
    "stem_features": whole(1, MOST_CHANNELS),
    "batch_norm_group": whole(1, 2**31 - 1),
    "stem": choice("cifar", "imagenet"),
    "shortcut": choice("pad", "projection", "none"),
    "start": choice(*PREVIOUS[1:]),
    "boundary": choice(*PREVIOUS),
    "readout": choice(*get_args(Readout)),
    "activation": choice("relu", "tanh"),
    "block": Kind(
        f"one of {', '.join(BLOCKS)}, or a class such as BasicUnit", _is_block, str
    ),
    "unit_relu": FLAG,
    "post_activation": FLAG,
    "batch_norm": FLAG,
    "bottleneck": FLAG,
    "compression": number("in (0, 1]", lambda value: 0 < value <= 1),
    "dropout_rate": number("in [0, 1)", lambda value: 0 <= value < 1),
    "dtype": Kind('a floating-point type, such as "bfloat16"', _is_floating, str),
    "beta1": COEFFICIENT,
    "beta2": COEFFICIENT,
    "memory": COEFFICIENT,
}
"""Field → kind, for every field of every network."""


def check(constructor: Callable, values: Mapping[str, Any]) -> None:
    """Check the values of a network's fields.

    Args:
        constructor: of the network, a value of :data:`~optnet_jax.networks.NETWORKS`.
        values: field → value.

    Raises:
        InputError: a value that is not of its field's kind, or out of its range.
    """
    fields.check(constructor, values, FIELDS)


def check_module(network: nn.Module) -> None:
    """Check the fields of a network, see :func:`check`."""
    fields.check_module(network, FIELDS)
