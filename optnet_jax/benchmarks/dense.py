"""What a training step costs against the layers of a dense block."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping

from optnet_jax.benchmarks.curves import Curves
from optnet_jax.benchmarks.depth import training
from optnet_jax.benchmarks.jax_runs import Program


class Dense(Curves):
    """One block of DenseNet and of AGD-Net, growth rate 12, on 32×32 images."""

    axis = "layers of the block"
    values = (6, 12, 24, 48)
    batch = 4

    def programs(
        self, value: int, options: argparse.Namespace
    ) -> Mapping[str, Callable[[], Program]]:
        """See :meth:`Curves.programs`."""
        return {
            f"{label}{', remat' * remat}": functools.partial(
                training, options.batch, name, stage_sizes=(value,), remat=remat
            )
            for label, name in (("DenseNet", "densenet"), ("AGD-Net", "agd_net"))
            for remat in (False, True)
        }


SUITE = Dense()
