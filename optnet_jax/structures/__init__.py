"""Structures: a recurrence run over linen transforms."""

from optnet_jax.structures.fully_connected import FullyConnected
from optnet_jax.structures.propagation import Propagation

__all__ = ["FullyConnected", "Propagation"]
