"""What torchvision calls the weights of ResNet and DenseNet."""

import re
from typing import Any

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
WEIGHT_LEAVES = tuple(_LEAVES)
"""Names of the leaves that are weights; what has another name is a coefficient."""

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


def torchvision_name(path: str, *, dense: bool, has_transition: bool) -> str | None:
    """Return torchvision's name of one weight.

    >>> torchvision_name("stem_conv/kernel", dense=True, has_transition=False)
    'features.conv0.weight'

    Args:
        path: of a leaf of ``params`` or ``batch_stats``, joined by "/", unrolled
            layers.
        dense: a DenseNet, not a ResNet.
        has_transition: the leaf's stage begins with a transition, so that its first
            step is block 1.

    Returns:
        The key in the state dict, or None for what torchvision's networks do not have.
    """
    module, _, leaf = path.rpartition("/")
    for pattern, name in _DENSE if dense else _RECURRENCE:
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

    The first DenseNet files put a dot before a layer's numbers; DataParallel and
    torch.compile put ``module.`` and ``_orig_mod.`` before everything, a module that
    holds the network ``model.`` or ``net.``.

    >>> modern_name("features.denseblock1.denselayer2.norm.1.weight")
    'features.denseblock1.denselayer2.norm1.weight'
    >>> modern_name("_orig_mod.module.fc.bias")
    'fc.bias'
    """
    key = re.sub(r"^((module|_orig_mod|model|net)\.)+", "", key)
    return re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key)
