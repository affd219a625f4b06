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


@dataclasses.dataclass(frozen=True)
class HeavyBall:
    """x_{k+1} = T(x_k) + β1 x_k + β2 x_{k-1}, x_{-1} = x_0.

    (16); (11) is β1 = β, β2 = -β. (1, 0) is ResNet, (1, -1) is HB-Net (§6.1).

    Attributes:
        beta1: the coefficient of x_k, a scalar or one for each step. Default: §5.3's
            0.3.
        beta2: the coefficient of x_{k-1}, likewise.
        post_activation: applied to the sum, as in He's first ResNet; None for nothing.
    """

    beta1: Any = 0.3
    beta2: Any = -0.3
    post_activation: Transform | None = None

    def __post_init__(self):
        object.__setattr__(self, "beta1", as_field("beta1", self.beta1))
        object.__setattr__(self, "beta2", as_field("beta2", self.beta2))

    def coefficients(self, depth: int) -> Coefficients:
        """Return beta1 and beta2, [depth] each."""
        return {
            "beta1": per_step("beta1", self.beta1, depth),
            "beta2": per_step("beta2", self.beta2, depth),
        }

    def init(self, x0: Any) -> tuple:
        """Return (x_0, x_{-1}) = (x_0, x_0)."""
        return x0, x0

    def restart(self, x0: Any, previous: Any) -> tuple:
        """Return (x_0, x_{-1}) = (x0, previous)."""
        return x0, previous

    def step(self, transform: Transform, state: tuple, c: Coefficients) -> tuple:
        """Return (x_{k+1}, x_k)."""
        x, x_previous = state
        x_next = transform(x) + c["beta1"] * x + c["beta2"] * x_previous
        if self.post_activation is not None:
            x_next = self.post_activation(x_next)
        return x_next, x

    def output(self, state: tuple) -> Any:
        """Return x_K."""
        return state[0]


def heavy_ball(beta: ArrayLike) -> HeavyBall:
    """Return the heavy ball of (11): x_{k+1} = T(x_k) + β (x_k - x_{k-1}).

    >>> heavy_ball(0.3)
    HeavyBall(beta1=0.3, beta2=-0.3, post_activation=None)

    Args:
        beta: the momentum, a scalar or one for each step.

    Returns:
        ``HeavyBall(beta, -beta)``.
    """
    return HeavyBall(
        beta, -beta if isinstance(beta, Tracer) else -numbers("beta", beta)
    )
