"""The columns of Table 2, and what the paper leaves open in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from optnet_jax.errors import InputError
from optnet_jax.recurrences import (
    ADMM,
    GradientDescent,
    Nesterov,
    NesterovSum,
    Recurrence,
    heavy_ball,
)
from optnet_jax.studies.table2.readout import Extrapolated

PAPER = {
    "ADMM": {10: 1.07576, 20: 1.07495, 30: 1.07665, 40: 1.07749},
    "GD": {10: 1.00644, 20: 1.00679, 30: 1.00652, 40: 1.00653},
    "HB": {10: 1.00443, 20: 1.00449, 30: 1.00455, 40: 1.00457},
    "AGD": {10: 1.00270, 20: 1.00215, 30: 1.00204, 40: 1.00213},
    "AGD2": {10: 1.00745, 20: 1.00227, 30: 1.00086, 40: 0.99964},
}
"""Table 2 as printed: column → depth → MSE."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """One reading of one column of Table 2.

    Attributes:
      label: how tables name it.
      make: the recurrence, from the heavy ball's β.
      column: the paper's column, a key of :data:`PAPER`; None: not in the paper.
      separate_paths: two-path methods: each path has weights of its own.
      slow: trained at the smaller learning rate.
    """

    label: str
    make: Callable[[float], Recurrence]
    column: str | None = None
    separate_paths: bool = False
    slow: bool = False


CONTENDERS = {
    # The paper does not say whether the two lines of (14) share W, nor which of the
    # two paths is the output.
    "admm_shared": Contender(
        "ADMM (14), shared W, x", lambda _: ADMM(readout="x"), "ADMM"
    ),
    "admm_separate": Contender(
        "ADMM (14), W and W', mean",
        lambda _: ADMM(readout="mean"),
        "ADMM",
        separate_paths=True,
    ),
    "gd": Contender("GD (7)", lambda _: GradientDescent(), "GD"),
    "hb": Contender("HB (11)", heavy_ball, "HB"),
    "agd": Contender("AGD (12)", lambda _: Nesterov(), "AGD"),
    "agd2": Contender("AGD2 (13)", lambda _: NesterovSum(), "AGD2"),
    "agd2_slow": Contender(
        "AGD2 (13), lower rate", lambda _: NesterovSum(), "AGD2", slow=True
    ),
    "gd_readout": Contender(
        "GD, AGD2's read-out", lambda _: Extrapolated(GradientDescent())
    ),
    "agd_readout": Contender(
        "AGD, AGD2's read-out", lambda _: Extrapolated(Nesterov())
    ),
}
"""Name in the config → what is trained."""


def contender(name: str) -> Contender:
    """Return the contender of that name.

    Args:
      name: a key of :data:`CONTENDERS`.

    Raises:
      InputError: there is none.
    """
    if name not in CONTENDERS:
        raise InputError(
            f"config.structures has {name!r}: use some of {', '.join(CONTENDERS)}"
        )
    return CONTENDERS[name]
