"""The columns of Table 2, and what the paper leaves open in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from optnet_jax.errors import InputError
from optnet_jax.recurrences import ADMM, Recurrence, heavy_ball
from optnet_jax.recurrences.methods import Method, find, minimisers
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


def contenders() -> dict[str, Contender]:
    """Return name in the config → what is trained.

    Each of the paper's methods with its own coefficients, and what is left open in it.
    """
    plain = {
        method.key: _as_it_is(method)
        for method in minimisers()
        if not method.tuned and method.key != "admm"
    }
    return {
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
        **plain,
        "agd2_slow": dataclasses.replace(
            plain["agd2"], label=f"{plain['agd2'].label}, lower rate", slow=True
        ),
        **{
            f"{key}_readout": Contender(
                f"{find(key).name}, AGD2's read-out",
                lambda _, key=key: Extrapolated(find(key).recurrence()),
            )
            for key in ("gd", "agd")
        },
    }


def _as_it_is(method: Method) -> Contender:
    make = heavy_ball if method.key == "hb" else lambda _: method.recurrence()
    return Contender(method.title, make, method.name)


def contender(name: str) -> Contender:
    """Return the contender of that name.

    Args:
      name: a key of :func:`contenders`.

    Raises:
      InputError: there is none.
    """
    there_are = contenders()
    if name not in there_are:
        raise InputError(
            f"config.structures has {name!r}: use some of {', '.join(there_are)}"
        )
    return there_are[name]
