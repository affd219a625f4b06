"""The named networks whose stages run a recurrence; each is a method and a geometry."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from optnet_jax.networks.recurrence_net import RecurrenceNet
from optnet_jax.ops.relu import relu
from optnet_jax.recurrences import (
    ADMM,
    GradientDescent,
    HeavyBall,
    Nesterov,
    TwoPath,
)


def _with_network_fields(constructor: Callable[..., RecurrenceNet]) -> Any:
    """Show the network's fields in the signature in place of ``**fields``."""
    own = inspect.signature(constructor)
    parameters = {
        name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(RecurrenceNet).parameters.items()
        if name not in ("recurrence", "parent", "name")
    }
    for name, parameter in own.parameters.items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters[name] = parameter
    constructor.__signature__ = own.replace(parameters=list(parameters.values()))  # pyright: ignore
    return constructor


@_with_network_fields
def hb_net(
    *,
    beta1: Any = 1.0,
    beta2: Any = -1.0,
    post_activation: bool = False,
    **fields: Any,
) -> RecurrenceNet:
    """Return an HB-Net (§6.1): x_{k+1} = T(x_k) + β1 x_k + β2 x_{k-1} (16).

    Args:
      beta1: β1, a scalar or one value for each step of a stage.
      beta2: β2, likewise.
      post_activation: follow the sum with a ReLU.
      **fields: those of :class:`~optnet_jax.networks.recurrence_net.RecurrenceNet`.
    """
    activation = relu if post_activation else None
    return RecurrenceNet(HeavyBall(beta1, beta2, activation), **fields)


@_with_network_fields
def resnet(
    *, beta2: Any = 0.0, post_activation: bool = True, **fields: Any
) -> RecurrenceNet:
    """Return a ResNet, which is :func:`hb_net` with β2 = 0 and a ReLU after the sum.

    Args:
      beta2: β2; 0 but for experiments.
      post_activation: He's first ResNet; with ``block="pre_activation"``, False gives
        his second.
      **fields: those of :func:`hb_net`.
    """
    return hb_net(beta2=beta2, post_activation=post_activation, **fields)


@_with_network_fields
def nesterov_net(
    *, beta1: Any = None, beta2: Any = None, unit_relu: bool = True, **fields: Any
) -> RecurrenceNet:
    """Return a network of (17): x_{k+1} = T(β1 x_k + β2 x_{k-1}).

    Args:
      beta1: β1, a scalar or one value for each step of a stage; None: 1 + β_k of (3).
      beta2: β2, likewise; None: -β_k.
      unit_relu: T ends with a ReLU: (17) has no sum outside T that would need its sign.
      **fields: those of :class:`~optnet_jax.networks.recurrence_net.RecurrenceNet`.
    """
    return RecurrenceNet(Nesterov(beta1, beta2), unit_relu=unit_relu, **fields)


@_with_network_fields
def plain(
    *, unit_relu: bool = True, shortcut: str = "none", **fields: Any
) -> RecurrenceNet:
    """Return a network of (7), x_{k+1} = T(x_k): ResNet without skip connections.

    Args:
      unit_relu: T ends with a ReLU.
      shortcut: none in the transitions either.
      **fields: those of :class:`~optnet_jax.networks.recurrence_net.RecurrenceNet`.
    """
    return RecurrenceNet(
        GradientDescent(), unit_relu=unit_relu, shortcut=shortcut, **fields
    )


@_with_network_fields
def dmr_net(
    *,
    alpha: Any = 0.5,
    beta: Any = 0.5,
    memory: Any = 0.0,
    readout: Any = "mean",
    separate_paths: bool = True,
    shortcut: str = "projection",
    **fields: Any,
) -> RecurrenceNet:
    """Return a network of (20); the defaults are DMRNet's.

    Args:
      alpha: α, a scalar or one value for each step of a stage.
      beta: β, likewise.
      memory: how much of the sum over t is kept from step to step: 0 is DMRNet, 1
        keeps all of it, from t = 0 of each stage on, where (20) is printed with a sum
        from t = 1 on: ``RecurrenceNet`` with a ``TwoPath.printed(depth)`` for each
        stage is that.
      readout: "x", "x_prime" or their "mean", taken once, before the pooling.
      separate_paths: each path has weights of its own.
      shortcut: DFN-MR has projections.
      **fields: those of :class:`~optnet_jax.networks.recurrence_net.RecurrenceNet`.
    """
    return RecurrenceNet(
        TwoPath(alpha, beta, memory, readout),
        separate_paths=separate_paths,
        shortcut=shortcut,
        **fields,
    )


@_with_network_fields
def admm_net(*, readout: Any = "x", **fields: Any) -> RecurrenceNet:
    """Return a network of (14); as printed, both paths of a layer share its weights.

    Args:
      readout: "x", "x_prime" or their "mean", taken once, before the pooling.
      **fields: those of :class:`~optnet_jax.networks.recurrence_net.RecurrenceNet`.
    """
    return RecurrenceNet(ADMM(readout), **fields)


_depth_20 = {"stage_sizes": (3, 3, 3)}
_depth_56 = {"stage_sizes": (9, 9, 9)}
_depth_110 = {"stage_sizes": (18, 18, 18)}
_depth_34 = {
    "stage_sizes": (3, 4, 6, 3),
    "widths": (64, 128, 256, 512),
    "stem": "imagenet",
    "shortcut": "projection",
    "num_classes": 1000,
}

RECURRENCE_NETWORKS: dict[str, Callable[..., RecurrenceNet]] = {
    "plain": functools.partial(plain, **_depth_20),
    "resnet": resnet,
    "resnet20": functools.partial(resnet, **_depth_20),
    "resnet56": functools.partial(resnet, **_depth_56),
    "resnet110": functools.partial(resnet, **_depth_110),
    "resnet34": functools.partial(resnet, **_depth_34),
    "hb_net": hb_net,
    "hb_net20": functools.partial(hb_net, **_depth_20),
    "hb_net56": functools.partial(hb_net, **_depth_56),
    "hb_net110": functools.partial(hb_net, **_depth_110),
    "hb_net34": functools.partial(hb_net, **_depth_34),
    "nesterov_net": nesterov_net,
    "nesterov_net56": functools.partial(nesterov_net, **_depth_56),
    "dmr_net": dmr_net,
    "dmr_net56": functools.partial(dmr_net, **_depth_56),
    "admm_net": admm_net,
}
"""Name -> constructor; a ResNet is its HB-Net with other coefficients."""
