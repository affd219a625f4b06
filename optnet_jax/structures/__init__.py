"""Structures: a recurrence run over linen transforms."""

from optnet_jax.structures.equilibrium import Equilibrium
from optnet_jax.structures.fully_connected import FullyConnected
from optnet_jax.structures.layer import EachLayer
from optnet_jax.structures.layout import stack_layers, unroll_layers
from optnet_jax.structures.pairwise import Pairwise
from optnet_jax.structures.propagation import Propagation
from optnet_jax.structures.reversible import ReversiblePropagation
from optnet_jax.structures.shrinkage import Shrinkage, shrinkage
from optnet_jax.structures.stage import Stage
from optnet_jax.structures.symmetric_map import SymmetricMap

__all__ = [
    "EachLayer",
    "Equilibrium",
    "FullyConnected",
    "Pairwise",
    "Propagation",
    "ReversiblePropagation",
    "Shrinkage",
    "Stage",
    "SymmetricMap",
    "shrinkage",
    "stack_layers",
    "unroll_layers",
]
