"""What a training step of Table 2's networks costs against their layers."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from optnet_jax.benchmarks.curves import Curves
from optnet_jax.benchmarks.jax_runs import LEARNING_RATE, Program, carried_program
from optnet_jax.structures import FullyConnected, Propagation
from optnet_jax.studies.simulation import readings
from optnet_jax.studies.table2 import PAPER

# Of ADMM, the reading that gives the paper's number.
STRUCTURES = {
    column: "admm_separate" if column == "ADMM" else column.lower() for column in PAPER
}
"""Column of the paper's table -> structure of the study."""
DIM = 100


class Simulation(Curves):
    """The structures of §5.3 over Φ(W x) in 100 dimensions, and with ``remat``."""

    axis = "layers"
    values = (10, 20, 40, 80, 160, 320, 640)
    batch = 1000

    def programs(
        self, value: int, options: argparse.Namespace
    ) -> Mapping[str, Callable[[], Program]]:
        """See :meth:`Curves.programs`."""
        return {
            f"{label}{', remat' * remat}": functools.partial(
                _training, structure, value, remat, options.batch
            )
            for label, structure in STRUCTURES.items()
            for remat in (False, True)
        }


def _training(structure: str, depth: int, remat: bool, samples: int) -> Program:
    """A step of SGD on random pairs, as the study takes it."""
    made = readings()[structure]
    network = Propagation(
        made.recurrence,
        FullyConnected(),
        depth,
        separate_paths=made.separate_paths,
        remat=remat,
    )
    inputs, targets = jax.random.normal(jax.random.key(0), (2, samples, DIM))
    params = network.init(jax.random.key(1), jnp.zeros(DIM))["params"]

    def loss(params: Any, x: jax.Array, f: jax.Array) -> jax.Array:
        y: Any = network.apply({"params": params}, x)
        return jnp.mean((y - f) ** 2)

    def step(params: Any, x: jax.Array, f: jax.Array) -> tuple[Any, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(params, x, f)
        moved = jax.tree.map(lambda w, g: w - LEARNING_RATE * g, params, gradient)
        return moved, value

    return carried_program(step, params, inputs, targets)


SUITE = Simulation()
