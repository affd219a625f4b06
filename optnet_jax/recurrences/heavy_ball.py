"""Polyak's heavy ball (2); as a structure (11), relaxed (16): ResNet and HB-Net."""

import dataclasses
from typing import Any, ClassVar

from jax.core import Tracer
from jax.typing import ArrayLike

from optnet_jax.recurrences.base import (
    Coefficients,
    FieldCoefficients,
    Transform,
    TwoIterates,
    numbers,
    scaled,
)


@dataclasses.dataclass(frozen=True)
class HeavyBall(FieldCoefficients, TwoIterates):
    """x_{k+1} = T(x_k) + β1 x_k + β2 x_{k-1}, x_{-1} = x_0.

    (16). With β1 = β, β2 = -β it is (11), and over T(z) = z - ∇f(z) it is (2):
    z_{k+1} = z_k - ∇f(z_k) + β (z_k - z_{k-1}). (1, 0) is ResNet, (1, -1) is HB-Net
    (§6.1), (2, -1) leapfrog and (0, 1) the midpoint rule of Chang et al. (2018).

    Attributes:
        beta1: the coefficient of x_k, a scalar or one for each step. Default: §5.3's
            0.3.
        beta2: the coefficient of x_{k-1}, likewise.
        post_activation: applied to the sum, as in He's first ResNet; None for nothing.
        scale: a factor of T(x_k), likewise; None, the default, is 1.
    """

    beta1: Any = 0.3
    beta2: Any = -0.3
    post_activation: Transform | None = None
    scale: Any = None
    names: ClassVar[tuple[str, ...]] = ("beta1", "beta2", "scale")

    def step(self, transform: Transform, state: tuple, c: Coefficients) -> tuple:
        """Return (x_{k+1}, x_k)."""
        x, x_previous = state
        t = transform(x)
        if "scale" in c:
            t = c["scale"] * t
        x_next = t + scaled(c["beta1"], x) + scaled(c["beta2"], x_previous)
        if self.post_activation is not None:
            x_next = self.post_activation(x_next)
        return x_next, x

    def undo(self, transform: Transform, state: tuple, c: Coefficients) -> tuple:
        """Return (x_k, x_{k-1}): (16) solved for x_{k-1}, with no activation after."""
        x_next, x = state
        t = transform(x)
        if "scale" in c:
            t = c["scale"] * t
        return x, (t + c["beta1"] * x - x_next) / -c["beta2"]


def heavy_ball(beta: ArrayLike) -> HeavyBall:
    """Return the heavy ball of (11): x_{k+1} = T(x_k) + β (x_k - x_{k-1}).

    >>> heavy_ball(0.3)
    HeavyBall(beta1=0.3, beta2=-0.3, post_activation=None, scale=None)

    Args:
        beta: the momentum, a scalar or one for each step.
    """
    beta = beta if isinstance(beta, Tracer) else numbers("beta", beta)
    return HeavyBall(beta, -beta)


def momentum_residual(gamma: ArrayLike) -> HeavyBall:
    """Return Momentum ResNet: v ← γ v + (1 - γ) T(x), x ← x + v, with v_0 = 0.

    Without v that is (16) with β = (1 + γ, -γ) and T scaled by 1 - γ. Source: Sander,
    Ablin, Blondel, Peyré (2021), "Momentum Residual Neural Networks". γ = 0 is ResNet.

    Args:
        gamma: the momentum γ, a number.
    """
    gamma = gamma if isinstance(gamma, Tracer) else numbers("gamma", gamma)
    return HeavyBall(1 + gamma, -gamma, scale=1 - gamma)
