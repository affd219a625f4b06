"""Polyak's heavy ball (2); as a structure (11), relaxed (16): ResNet and HB-Net."""

import dataclasses
from typing import Any

from jax.core import Tracer
from jax.typing import ArrayLike

from optnet_jax.recurrences.base import (
    Coefficients,
    Transform,
    as_field,
    numbers,
    per_step,
)


class TwoIterates:
    """What methods have in common that remember one iterate: a state (x_k, x_{k-1})."""

    def init(self, x0: Any) -> tuple:
        """Return (x_0, x_{-1}) = (x_0, x_0)."""
        return x0, x0

    def restart(self, x0: Any, previous: Any) -> tuple:
        """Return (x_0, x_{-1}) = (x0, previous)."""
        return x0, previous

    def output(self, state: tuple) -> Any:
        """Return x_K."""
        return state[0]


@dataclasses.dataclass(frozen=True)
class HeavyBall(TwoIterates):
    """x_{k+1} = T(x_k) + β1 x_k + β2 x_{k-1}, x_{-1} = x_0.

    (16); (11) is β1 = β, β2 = -β. (1, 0) is ResNet, (1, -1) is HB-Net (§6.1), (2, -1)
    leapfrog and (0, 1) the midpoint rule of Chang et al. (2018).

    Attributes:
        beta1: the coefficient of x_k, a scalar or one for each step. Default: §5.3's
            0.3.
        beta2: the coefficient of x_{k-1}, likewise.
        scale: a factor of T(x_k), likewise; None, the default, is 1.
        post_activation: applied to the sum, as in He's first ResNet; None for nothing.
    """

    beta1: Any = 0.3
    beta2: Any = -0.3
    post_activation: Transform | None = None
    scale: Any = None

    def __post_init__(self):
        for name in ("beta1", "beta2", "scale"):
            object.__setattr__(self, name, as_field(name, getattr(self, name)))

    def coefficients(self, depth: int) -> Coefficients:
        """Return beta1, beta2 and, unless it is None, scale, [depth] each."""
        given = {"beta1": self.beta1, "beta2": self.beta2, "scale": self.scale}
        return {
            name: per_step(name, value, depth)
            for name, value in given.items()
            if value is not None
        }

    def step(self, transform: Transform, state: tuple, c: Coefficients) -> tuple:
        """Return (x_{k+1}, x_k)."""
        x, x_previous = state
        t = transform(x)
        if "scale" in c:
            t = c["scale"] * t
        x_next = t + c["beta1"] * x + c["beta2"] * x_previous
        if self.post_activation is not None:
            x_next = self.post_activation(x_next)
        return x_next, x


def heavy_ball(beta: ArrayLike) -> HeavyBall:
    """Return the heavy ball of (11): x_{k+1} = T(x_k) + β (x_k - x_{k-1}).

    >>> heavy_ball(0.3)
    HeavyBall(beta1=0.3, beta2=-0.3, post_activation=None, scale=None)

    Args:
        beta: the momentum, a scalar or one for each step.

    Returns:
        ``HeavyBall(beta, -beta)``.
    """
    return HeavyBall(
        beta, -beta if isinstance(beta, Tracer) else -numbers("beta", beta)
    )


def momentum_residual(gamma: float) -> HeavyBall:
    """Return Momentum ResNet: v ← γ v + (1 - γ) T(x), x ← x + v, with v_0 = 0.

    Without v that is (16) with β = (1 + γ, -γ) and T scaled by 1 - γ. Source: Sander,
    Ablin, Blondel, Peyré (2021), "Momentum Residual Neural Networks". γ = 0 is ResNet.

    Args:
        gamma: the momentum γ, a number.
    """
    return HeavyBall(1 + gamma, -gamma, scale=1 - gamma)
