"""The layers of a network, in the form that its fields ask for."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from optnet_jax.errors import InputError
from optnet_jax.recurrences import Recurrence
from optnet_jax.recurrences.base import check_recurrence
from optnet_jax.structures import EachLayer, Propagation, ReversiblePropagation
from optnet_jax.structures.checks import check_reversible, check_shared

UNROLLED_DEPTH = 18
"""Up to this many steps with weights of their own a stage is written out: it compiles
in seconds all the same."""


def propagation(
    network: Any,
    recurrence: Recurrence,
    make: Callable[..., Any],
    names: Sequence[str],
    depth: int,
    deepest: int = UNROLLED_DEPTH,
    **fields: Any,
) -> Propagation:
    """Return the layers of a network in the form that its fields ask for.

    Args:
        network: has the fields ``tied``, ``learned``, ``shared``, ``unroll``, ``remat``
            and ``reversible``.
        recurrence: the method.
        make: makes the transform of a layer, ``make(phi=...)``.
        names: of Φ in each layer.
        depth: the number of layers.
        deepest: up to this depth layers are written out if ``unroll`` is None.
        **fields: others of the propagation.
    """
    transform, unroll = make(phi=names[0]), network.unroll
    if len(set(names)) > 1:
        transform = EachLayer(tuple(make(phi=name) for name in names))
    if unroll is None:
        shallow = depth <= deepest or len(set(names)) > 1
        unroll = shallow and not (network.tied or network.reversible)
    return (ReversiblePropagation if network.reversible else Propagation)(
        recurrence,
        transform,
        depth,
        tied=network.tied,
        learned=network.learned,
        shared=network.shared,
        unroll=unroll,
        remat=network.remat,
        **fields,
    )


def check_layers(
    network: Any, method: Recurrence, names: Sequence[str], several: bool = False
) -> None:
    """Check what the layers of a network are to be, before they are made.

    Args:
        network: has the fields that :func:`propagation` reads.
        method: the recurrence.
        names: of Φ in each layer: where they differ, layers are written out.
        several: each layer goes through several transforms in turn.

    Raises:
        InputError: the method is none, or a field of the network asks for a form that
            its layers do not have.
    """
    check_recurrence(method)
    check_shared(network)
    scanned = network.tied or network.reversible or network.unroll is False
    if len(set(names)) > 1 and scanned:
        raise InputError(
            f"activation differs from layer to layer, {', '.join(names)}, so they are "
            f"neither tied, scanned nor reversible: leave these fields out"
        )
    if network.reversible:
        check_reversible(network, method, several)


def flag(layers: Propagation, train: bool) -> dict[str, Any]:
    """Return what T takes beside x: the train flag, where it asks for it."""
    takes = "train" in inspect.signature(layers.of_layer()).parameters
    return {"train": train} if takes else {}
