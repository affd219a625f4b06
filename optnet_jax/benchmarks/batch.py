"""What a training step costs against the number of images in it."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping
from typing import Any

from optnet_jax.benchmarks.curves import Curves
from optnet_jax.benchmarks.depth import training
from optnet_jax.benchmarks.jax_runs import Program

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "HB-Net-56": ("hb_net56", {}),
    "HB-Net-56, reversible": ("hb_net56", {"reversible": True}),
    "AGD-Net-40": ("agd_net40", {}),
    "AGD-Net-40, remat": ("agd_net40", {"remat": True}),
}


class Batch(Curves):
    """HB-Net-56 and AGD-Net-40 on 32×32 images, as they are and recomputing."""

    axis = "images a step"
    values = (1, 4, 16, 64)

    def programs(
        self, value: int, options: argparse.Namespace
    ) -> Mapping[str, Callable[[], Program]]:
        """See :meth:`Curves.programs`."""
        return {
            form: functools.partial(training, value, name, **fields)
            for form, (name, fields) in FORMS.items()
        }


SUITE = Batch()
