"""The named networks of stages: each is a recurrence and a geometry."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from optnet_jax.errors import InputError
from optnet_jax.networks import fields
from optnet_jax.networks.recurrence_net import (
    DENSE_FIELDS,
    RESIDUAL_FIELDS,
    RecurrenceNet,
)
from optnet_jax.ops.cpu import kept_gradient
from optnet_jax.ops.relu import relu
from optnet_jax.recurrences import (
    ADMM,
    GradientDescent,
    HeavyBall,
    HistorySum,
    Nesterov,
    TwoPath,
    takes_history,
)
from optnet_jax.recurrences.two_path import Readout
from optnet_jax.structures.fields import Learned

_with_fields = functools.partial(fields.with_fields_of, RecurrenceNet)
_residual = functools.partial(_with_fields, hidden=("recurrence", *DENSE_FIELDS))
_dense = functools.partial(
    _with_fields, hidden=("recurrence", *RESIDUAL_FIELDS, "widths", "block")
)


@_residual
def hb_net(
    *,
    beta1: fields.Coefficient = 1.0,
    beta2: fields.Coefficient = -1.0,
    post_activation: bool = False,
    **network: Any,
) -> RecurrenceNet:
    """Return an HB-Net (§6.1): x_{k+1} = T(x_k) + β1 x_k + β2 x_{k-1} (16).

    β1 and β2 are those of :class:`~optnet_jax.recurrences.HeavyBall`, with
    ``post_activation`` a ReLU after the sum, the others fields of
    :class:`~optnet_jax.networks.recurrence_net.RecurrenceNet`.
    """
    activation = relu if post_activation else None
    return RecurrenceNet(HeavyBall(beta1, beta2, activation), **network)


resnet = functools.partial(hb_net, beta2=0.0, post_activation=True)
"""He's first ResNet is :func:`hb_net` with β2 = 0 and a ReLU after the sum;
``block="pre_activation", post_activation=False`` is his second."""


@_residual
def nesterov_net(
    *,
    beta1: fields.Coefficient | None = None,
    beta2: fields.Coefficient | None = None,
    unit_relu: bool = True,
    **network: Any,
) -> RecurrenceNet:
    """Return a network of (17): x_{k+1} = T(β1 x_k + β2 x_{k-1}).

    β1 and β2 are those of :class:`~optnet_jax.recurrences.Nesterov`. T ends with a ReLU
    as there is no sum outside T that would need its sign.
    """
    return RecurrenceNet(Nesterov(beta1, beta2), unit_relu=unit_relu, **network)


@_residual
def plain(
    *, unit_relu: bool = True, shortcut: fields.Shortcut = "none", **network: Any
) -> RecurrenceNet:
    """Return a network of (7), x_{k+1} = T(x_k): ResNet without skip connections."""
    return RecurrenceNet(
        GradientDescent(), unit_relu=unit_relu, shortcut=shortcut, **network
    )


@_residual
def dmr_net(
    *,
    alpha: fields.Coefficient = 0.5,
    beta: fields.Coefficient = 0.5,
    memory: fields.Coefficient = 0.0,
    readout: Readout = "mean",
    separate_paths: bool = True,
    shortcut: fields.Shortcut = "projection",
    **network: Any,
) -> RecurrenceNet:
    """Return a network of (20); the defaults, with projections, are DMRNet's (DFN-MR).

    α, β, the memory and the read-out, which is taken once, before the pooling, are
    those of :class:`~optnet_jax.recurrences.TwoPath`. Memory 1 keeps all of the sum,
    from t = 0 of each stage on; (20) is printed with a sum from t = 1 on, which is
    ``RecurrenceNet`` with a ``TwoPath.printed(depth)`` for each stage.
    """
    return RecurrenceNet(
        TwoPath(alpha, beta, memory, readout),
        separate_paths=separate_paths,
        shortcut=shortcut,
        **network,
    )


@_residual
def admm_net(*, readout: Readout = "x", **network: Any) -> RecurrenceNet:
    """Return a network of (14); as printed, both paths of a layer share its weights.

    The read-out, of :class:`~optnet_jax.recurrences.ADMM`, is taken once, before the
    pooling.
    """
    return RecurrenceNet(ADMM(readout), **network)


@_dense
def agd_net(
    *,
    recurrence: fields.Recurrences | None = None,
    stage_sizes: fields.StageSizes = (12, 12, 12),
    growth_rate: fields.Channels = 12,
    stem_features: fields.Channels = 16,
    bottleneck: bool = False,
    alpha: fields.Weights = 1.0,
    beta: fields.Weights = 0.1,
    learned: Learned | None = None,
    **network: Any,
) -> RecurrenceNet:
    """Return an AGD-Net (§6.2), a dense network of (18) in the form of (21).

    Args:
        recurrence: another method over the whole history, in the place of (18).
        stage_sizes: the number of layers of each stage; (L - 4) / 3 each for depth L.
        growth_rate: k, the channels of z_1, z_2, ...
        stem_features: channels of the first stage's z_0.
        bottleneck: put a 1×1 convolution to 4 k channels before each 3×3 (DenseNet-B).
        alpha: α of :class:`~optnet_jax.recurrences.HistorySum`, or a tuple of matrices,
            one for each stage.
        beta: β, likewise.
        learned: names of coefficients that are trained, in each stage its own; None: α
            of (18), nothing of another method.
        **network: those of :class:`~optnet_jax.networks.recurrence_net.RecurrenceNet`.

    Raises:
        InputError: a recurrence that takes one iterate, or alpha or beta beside a
            recurrence, which has its own coefficients.
    """
    recurrence = fields.method(recurrence)
    if learned is None:
        learned = ("alpha",) if recurrence is None else ()
    if recurrence is None:
        recurrence = _history_sums(alpha, beta, len(stage_sizes))
    elif not fields.are_several(recurrence) and not takes_history(recurrence):
        name = type(recurrence).__name__
        raise InputError(
            f"a dense network needs a recurrence over the whole history, history = "
            f"True, and {name} takes one iterate: RecurrenceNet({name}(), ...) runs it"
        )
    elif np.ndim(alpha) or np.ndim(beta) or alpha != 1 or beta not in (0, 0.1):
        raise InputError(
            f"alpha and beta are those of (18), and {type(recurrence).__name__} has "
            f"coefficients of its own: give it them"
        )
    return RecurrenceNet(
        recurrence,
        stage_sizes=stage_sizes,
        widths=(growth_rate,) * len(stage_sizes),
        block="dense_bottleneck" if bottleneck else "dense",
        stem_features=stem_features,
        learned=learned,
        **network,
    )


def _history_sums(alpha: Any, beta: Any, stages: int) -> Any:
    """Return the method of all stages, or a tuple with one for each."""
    alphas, betas = _of_stages("alpha", alpha, stages), _of_stages("beta", beta, stages)
    pairs = zip(alphas, betas, strict=True)
    methods = tuple(HistorySum(*pair, through=kept_gradient) for pair in pairs)
    return methods if any(method != methods[0] for method in methods) else methods[0]


def _of_stages(name: str, value: Any, stages: int) -> Any:
    held = isinstance(value, tuple | list) or getattr(value, "ndim", 0)
    is_each = held and np.ndim(value[0]) == 2
    if is_each and len(value) != stages:
        raise InputError(
            f"{name} needs a matrix for each of the {stages} stages, got {len(value)}"
        )
    return value if is_each else [value] * max(stages, 1)


densenet = functools.partial(agd_net, learned=(), beta=0.0)
"""DenseNet (19): :func:`agd_net` with α ≡ 1 and β = 0, both fixed."""

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

_dense_40 = {"stage_sizes": (12, 12, 12)}
_dense_52 = {"stage_sizes": (16, 16, 16)}
_dense_121 = {
    "stage_sizes": (6, 12, 24, 16),
    "growth_rate": 32,
    "stem": "imagenet",
    "stem_features": 64,
    "bottleneck": True,
    "compression": 0.5,
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
    "densenet": densenet,
    "densenet40": functools.partial(densenet, **_dense_40),
    "densenet52": functools.partial(densenet, **_dense_52),
    "densenet121": functools.partial(densenet, **_dense_121),
    "densenet_bc100": functools.partial(
        densenet, **_dense_52, stem_features=24, bottleneck=True, compression=0.5
    ),
    "agd_net": agd_net,
    "agd_net40": functools.partial(agd_net, **_dense_40),
    "agd_net52": functools.partial(agd_net, **_dense_52),
    "agd_net121": functools.partial(agd_net, **_dense_121),
}
"""Name -> constructor; a ResNet is its HB-Net, a DenseNet its AGD-Net with other
coefficients."""
