"""The list of methods: what every study, test and table of methods reads."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable

from optnet_jax.errors import InputError
from optnet_jax.recurrences.admm import ADMM
from optnet_jax.recurrences.anderson import Anderson
from optnet_jax.recurrences.base import Recurrence, check_mu
from optnet_jax.recurrences.coupled import Coupled
from optnet_jax.recurrences.gradient_descent import GradientDescent
from optnet_jax.recurrences.heavy_ball import HeavyBall, heavy_ball, momentum_residual
from optnet_jax.recurrences.linear_multistep import LinearMultistep
from optnet_jax.recurrences.nesterov import Nesterov
from optnet_jax.recurrences.nesterov_sum import NesterovSum
from optnet_jax.recurrences.triple_momentum import triple_momentum
from optnet_jax.recurrences.two_path import TwoPath


@dataclasses.dataclass(frozen=True)
class Method:
    """A recurrence with its coefficients, and what theory says of its rate.

    The step size is 1 and L ≤ 1, as in (1): f is then as ill-conditioned as μ is small,
    and for L = 1 the condition number is κ = 1/μ.

    Attributes:
        key: its name in configs and in Python, such as ``"agd_tuned"``.
        name: its name in the paper, such as ``"AGD"``; several entries may share it.
        equation: the number of its structure, such as ``"12"``; empty for one that the
            paper does not have.
        given: the recurrence, or a function of μ where its coefficients are tuned to μ.
        details: what its label says of its coefficients.
        rate: μ ↦ the contraction of ‖x_k - x*‖ in one step near x*; None where theory
            gives no linear rate.
        relaxed: its coefficients are a network's and those of no method of
            optimisation: it is not meant to reach a minimiser.
        adaptive: its coefficients depend on the iterates: a step is not linear where T
            is, so it has no characteristic roots, and Lemma 1 does not hold for it.
    """

    key: str
    name: str
    equation: str
    given: Recurrence | Callable[[float], Recurrence]
    details: str = ""
    rate: Callable[[float], float] | None = None
    relaxed: bool = False
    adaptive: bool = False

    @property
    def title(self) -> str:
        """The name and the equation: ``"AGD (12)"``."""
        number = f"({self.equation})" if self.equation else ""
        return f"{self.name} {number}".strip()

    @property
    def label(self) -> str:
        """The title and the details: what tells it from all others in tables."""
        return f"{self.title}{self.details}"

    @property
    def tuned(self) -> bool:
        """Whether its coefficients depend on μ."""
        return callable(self.given)

    def recurrence(self, mu: float | None = None) -> Recurrence:
        """Return the recurrence.

        Args:
            mu: μ; a method that is not tuned needs none.

        Raises:
            InputError: a tuned method without μ, or μ out of (0, 1].
        """
        if not callable(self.given):
            return self.given
        if mu is None:
            raise InputError(
                f"{self.label} needs μ, on which its coefficients depend: give "
                f"methods.find({self.key!r}).recurrence(mu)"
            )
        return self.given(check_mu(mu))


def _tuned_heavy_ball(mu: float) -> HeavyBall:
    return heavy_ball((1 - math.sqrt(mu)) ** 2)


def _accelerated(mu: float) -> float:
    return 1 - math.sqrt(mu)


def _tuned_nesterov(mu: float) -> Nesterov:
    beta = (1 - math.sqrt(mu)) / (1 + math.sqrt(mu))
    return Nesterov(1 + beta, -beta)


METHODS: tuple[Method, ...] = (
    Method("gd", "GD", "7", GradientDescent(), rate=lambda mu: 1 - mu),
    Method("hb", "HB", "11", heavy_ball(0.3), ", β = 0.3"),
    Method(
        "hb_tuned", "HB", "11", _tuned_heavy_ball, ", β = (1 - √μ)²", rate=_accelerated
    ),
    Method("resnet", "ResNet", "16", HeavyBall(1, 0), ": 1, 0", relaxed=True),
    Method("hb_net", "HB-Net", "16", HeavyBall(1, -1), ": 1, -1", relaxed=True),
    Method("agd", "AGD", "12", Nesterov(), ", θ_k"),
    Method(
        "agd_tuned",
        "AGD",
        "12",
        _tuned_nesterov,
        ", β = (1 - √μ)/(1 + √μ)",
        rate=_accelerated,
    ),
    Method("agd2", "AGD2", "13", NesterovSum(), ", θ_k"),
    Method("admm", "ADMM", "14", ADMM()),
    Method("dmr_net", "DMRNet", "20", TwoPath(), relaxed=True),
    Method("two_path", "", "20", TwoPath(memory=1.0), " from t = 0", relaxed=True),
    Method(
        "triple_momentum", "Triple momentum", "", triple_momentum, rate=_accelerated
    ),
    Method("leapfrog", "Leapfrog", "16", HeavyBall(2, -1), ": 2, -1", relaxed=True),
    Method("midpoint", "Midpoint", "16", HeavyBall(0, 1), ": 0, 1", relaxed=True),
    Method(
        "momentum_resnet",
        "Momentum ResNet",
        "16",
        momentum_residual(0.9),
        ", γ = 0.9",
        relaxed=True,
    ),
    Method(
        "lm_resnet",
        "LM-ResNet",
        "16",
        LinearMultistep(-0.1),
        ", k = -0.1",
        relaxed=True,
    ),
    Method("revnet", "RevNet", "", Coupled(), relaxed=True),
    Method("anderson", "Anderson", "18", Anderson(), ", m = 5", adaptive=True),
)
"""The paper's methods with its coefficients and with those tuned to μ, the relaxed
structures of §6 with those of the networks that they are known by, and what was found
since."""


def minimisers() -> tuple[Method, ...]:
    """Return the methods of optimisation: those that are not relaxed."""
    return tuple(method for method in METHODS if not method.relaxed)


def titles(chosen: Iterable[Method]) -> dict[str, str]:
    """Return the titles of some methods by key; labels where two have one title."""
    chosen = tuple(chosen)
    count = collections.Counter(method.title for method in chosen)
    return {m.key: m.title if count[m.title] == 1 else m.label for m in chosen}


def find(name: str) -> Method:
    """Return the method of a key or a label.

    >>> find("agd2").label
    'AGD2 (13), θ_k'

    Args:
        name: a key, or a label.

    Raises:
        InputError: there is none; the message lists the keys.
    """
    for method in METHODS:
        if name in (method.key, method.label):
            return method
    raise InputError(
        f"there is no method {name!r}: use one of {', '.join(m.key for m in METHODS)}"
    )
