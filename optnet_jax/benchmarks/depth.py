"""What a training step of HB-Net costs against its number of layers."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping
from typing import Any

from optnet_jax.benchmarks import jax_runs
from optnet_jax.benchmarks.curves import Curves
from optnet_jax.benchmarks.jax_runs import Program, random_batch
from optnet_jax.errors import InputError
from optnet_jax.networks import create

SHAPE = (32, 32, 3)
WRITTEN_OUT = 110
"""Up to this many layers the stages are also written out: it takes long to compile."""
FORMS = {
    "scanned": {"unroll": False},
    "scanned and remat": {"unroll": False, "remat": True},
    "reversible": {"reversible": True},
}


class Depth(Curves):
    """HB-Net of 6 n + 2 layers: written out, scanned, recomputing, reversible."""

    axis = "layers"
    values = (56, 110, 218, 434, 866, 1202)
    batch = 4

    def programs(
        self, value: int, options: argparse.Namespace
    ) -> Mapping[str, Callable[[], Program]]:
        """See :meth:`Curves.programs`."""
        n, rest = divmod(value - 2, 6)
        if rest or n < 2:
            raise InputError(f"an HB-Net has 6 n + 2 layers, n > 1, not {value}")
        forms = dict(FORMS)
        if value <= WRITTEN_OUT:
            forms = {"written out": {"unroll": True}, **forms}
        return {
            form: functools.partial(
                training, options.batch, "hb_net", stage_sizes=(n, n, n), **fields
            )
            for form, fields in forms.items()
        }


def training(batch: int, name: str, **fields: Any) -> Program:
    """Compile the training step of a network on 32×32 images.

    Args:
      batch: images a step.
      name: of the network.
      **fields: its fields.
    """
    network: Any = create(name, **fields)
    state = jax_runs.initial_state(network, SHAPE)
    images = random_batch(batch, SHAPE, network.num_classes)
    return jax_runs.training_program(network, state, images)


SUITE = Depth()
