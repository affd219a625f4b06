"""What torchvision calls the weights of ResNet, DenseNet and VisionTransformer."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_WEIGHT_LEAVES = (*_LEAVES, "class_token", "position")

# Paths of modules in DenseNet, and the names as functions of the indices in them.
_DENSE: Any = (
    (r"stem_(conv|norm)", lambda kind: f"features.{kind}0"),
    (
        r"stage_(\d+)/layer_(\d+)/((?:conv|norm)[12])",
        lambda b, k, m: f"features.denseblock{b + 1}.denselayer{k + 1}.{m}",
    ),
    (
        r"transition_(\d+)/(conv|norm)",
        lambda t, kind: f"features.transition{t + 1}.{kind}",
    ),
    (r"norm", lambda: "features.norm5"),
    (r"head", lambda: "classifier"),
)

HEAD_BIASES = ("fc.bias", "classifier.bias", "heads.head.bias")
"""What the bias of the layer of logits is called, in each family."""

_PARTS = {"conv": "conv", "norm": "bn"}


def _unit(stage: int, unit: int, kind: str, i: int) -> str:
    return f"layer{stage + 1}.{unit}.{_PARTS[kind]}{i + 1}"


# In RecurrenceNet; a stage's transition is torchvision's block 0.
_RECURRENCE: Any = (
    (r"stem_(conv|norm)", lambda kind: f"{_PARTS[kind]}1"),
    (
        r"stage_(\d+)/transition/unit/(conv|norm)_(\d+)",
        lambda s, kind, i: _unit(s, 0, kind, i),
    ),
    (
        r"stage_(\d+)/transition/shortcut/(conv|norm)",
        lambda s, kind: f"layer{s + 1}.0.downsample.{('conv', 'norm').index(kind)}",
    ),
    (r"stage_(\d+)/propagation/layer_(\d+)/transform/(conv|norm)_(\d+)", _unit),
    (r"head", lambda: "fc"),
)

# In VisionTransformer; the branches of a layer are one T, or two in turn.
_ATTENTION = r"encoder/layer_(\d+)/(?:transform/branches_0|transform_0/branches_0)/"
_MLP = r"encoder/layer_(\d+)/(?:transform/branches_1|transform_1/branches_0)/"
_ENCODER = "encoder.layers.encoder_layer_"
_VISION: Any = (
    (r"stem/conv", lambda: "conv_proj"),
    (_ATTENTION + "norm", lambda k: f"{_ENCODER}{k}.ln_1"),
    (
        _ATTENTION + "attention/(query|key|value)",
        lambda k, part: f"{_ENCODER}{k}.self_attention.in_proj.{part}",
    ),
    (_ATTENTION + "attention/out", lambda k: f"{_ENCODER}{k}.self_attention.out_proj"),
    (_MLP + "norm", lambda k: f"{_ENCODER}{k}.ln_2"),
    (_MLP + r"dense_(\d)", lambda k, i: f"{_ENCODER}{k}.mlp.{3 * i}"),
    (r"norm", lambda: "encoder.ln"),
    (r"head", lambda: "heads.head"),
)
FAMILIES = {"resnet": _RECURRENCE, "densenet": _DENSE, "vit": _VISION}

_WHOLE = {"stem/class_token": "class_token", "stem/position": "encoder.pos_embedding"}
"""Leaves of a vision transformer that are no module's weight."""

PROJECTIONS = ("query", "key", "value")
"""In the order in which torch keeps them in one array, ``in_proj_weight``."""


def is_coefficient(path: str, learned: Collection[str]) -> bool:
    """Return whether a leaf is a coefficient, which the weights of others can lack.

    >>> paths = ("params.stage_0.alpha", "params.encoder.scale", "params.norm.scale")
    >>> [is_coefficient(path, {"encoder.scale"}) for path in paths]
    [True, True, False]

    Args:
        path: of a leaf of the variables, joined by ".".
        learned: the paths in ``params`` that the network declares as learned, whatever
            their names; others are coefficients if no weight has their name.
    """
    if path.removeprefix("params.") in learned:
        return True
    return path.rpartition(".")[2] not in _WEIGHT_LEAVES


def torchvision_name(path: str, *, family: str, has_transition: bool) -> str | None:
    """Return torchvision's name of one weight.

    Attention's ``in_proj_weight`` has a name for each of its three parts, such as
    ``in_proj.query.weight``, see :func:`in_parts`.

    >>> torchvision_name("stem_conv/kernel", family="densenet", has_transition=False)
    'features.conv0.weight'

    Args:
        path: of a leaf of ``params`` or ``batch_stats``, joined by "/", unrolled
            layers.
        family: one of :data:`FAMILIES`.
        has_transition: the leaf's stage begins with a transition, so that its first
            step is block 1.

    Returns:
        The key in the state dict, or None for what torchvision's networks do not have.
    """
    if family == "vit" and path in _WHOLE:
        return _WHOLE[path]
    module, _, leaf = path.rpartition("/")
    for pattern, name in FAMILIES[family]:
        match = re.fullmatch(pattern, module)
        if match and leaf in _LEAVES:
            indices: list[Any] = [
                int(g) if g.isdecimal() else g for g in match.groups()
            ]
            if has_transition and "/propagation/" in module:
                indices[1] += 1
            return f"{name(*indices)}.{_LEAVES[leaf]}"
    return None


def modern_name(key: str) -> str:
    """Return a key as torchvision spells it today.

    The first DenseNet files put a dot before a layer's numbers, the first ones of
    VisionTransformer call the MLP's layers ``linear_1``, ``linear_2``; DataParallel and
    torch.compile put ``module.`` and ``_orig_mod.`` before everything, a module that
    holds the network ``model.`` or ``net.``.

    >>> modern_name("features.denseblock1.denselayer2.norm.1.weight")
    'features.denseblock1.denselayer2.norm1.weight'
    >>> modern_name("_orig_mod.module.fc.bias")
    'fc.bias'
    """
    key = re.sub(r"^((module|_orig_mod|model|net)\.)+", "", key)
    key = key.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")
    return re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key)


def in_parts(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict with each attention's one projection as its three parts.

    Args:
        state: name -> array; what is not three equal parts stays as it is.
    """
    parts: dict[str, Any] = {}
    for key, value in state.items():
        kind = key.rpartition(".in_proj_")
        if kind[1] and np.ndim(value) and len(value) % 3 == 0:
            split = zip(PROJECTIONS, np.split(value, 3), strict=True)
            parts |= {f"{kind[0]}.in_proj.{p}.{kind[2]}": part for p, part in split}
        else:
            parts[key] = value
    return parts


def in_one(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict with the three parts of each attention's projection as one.

    Args:
        state: as :func:`in_parts` returns it.
    """
    whole: dict[str, Any] = {}
    for key, value in state.items():
        match = re.fullmatch(r"(.*)\.in_proj\.query\.(\w+)", key)
        if match:
            names = (f"{match[1]}.in_proj.{part}.{match[2]}" for part in PROJECTIONS)
            parts = [state[name] for name in names]
            whole[f"{match[1]}.in_proj_{match[2]}"] = np.concatenate(parts)
        elif ".in_proj." not in key:
            whole[key] = value
    return whole
