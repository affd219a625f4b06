"""torchvision's weights in and out: ResNet, DenseNet and VisionTransformer.

>>> from optnet_jax.networks import create
>>> from optnet_jax.weights import torchvision
>>> network = create("densenet121")
>>> variables = torchvision.load(network, "densenet121.pth")  # doctest: +SKIP
>>> torchvision.save(network, variables, "mine.safetensors")  # doctest: +SKIP

A network of the family needs no weights but torchvision's: what HB-Net or AGD-Net has
beyond them are coefficients, which an import leaves at the values that they start from.
So ``create("hb_net34")`` starts from ResNet-34's weights, ``create("agd_net121")`` from
DenseNet-121's, and ``create("vit_base16", recurrence=...)`` from ViT-B/16's.

torchvision's running variance is the unbiased one; it is taken as it is.
"""

import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from optnet_jax.errors import InputError
from optnet_jax.networks.fields import declared
from optnet_jax.weights import state_dict
from optnet_jax.weights.torchvision_names import (
    PROJECTIONS,
    in_one,
    in_parts,
    is_coefficient,
    modern_name,
    torchvision_name,
)

_SCANNED = "/layers/"
_SHOWN = 4
# HWIO to OIHW, [in, out] to [out, in], by the number of axes; positions and class
# tokens stay as they are.
_TO_TORCH = {1: (0,), 2: (1, 0), 3: (0, 1, 2), 4: (3, 2, 0, 1)}
# Fields whose other values make a network that torchvision has not, whatever the names
# of its leaves; a block of one's own is judged by these.
_CHOICES = {
    "resnet": {"shortcut": ("projection",), "block": ("basic", "bottleneck")},
    "densenet": {},
    "vit": {"pool": ("token",)},
}


class _Leaf(NamedTuple):
    """A leaf of the variables and where it is in a state dict.

    Attributes:
        path: (collection, module, ..., leaf).
        shape: of the array.
        keys: its names, one for each step of a scanned stage.
        stacked: whether the leading axis is that of the steps.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    keys: tuple[str, ...]
    stacked: bool

    @property
    def merged_shape(self) -> tuple[int, ...]:
        """The shape of one step's array with the heads of an attention as one axis."""
        shape, part = self.shape[self.stacked :], self.path[-2]
        if part in PROJECTIONS:
            return (*shape[:-2], math.prod(shape[-2:]))
        if part == "out" and len(shape) == 3:
            return (math.prod(shape[:-1]), shape[-1])
        return shape

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape of each of the tensors: OIHW for a convolution."""
        shape = self.merged_shape
        return tuple(shape[axis] for axis in _TO_TORCH[len(shape)])

    def from_torch(self, array: np.ndarray) -> np.ndarray:
        """Return one step's array."""
        array = array.transpose(np.argsort(_TO_TORCH[array.ndim]))
        return array.reshape(self.shape[self.stacked :])

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Return the tensor of one step's array."""
        array = array.reshape(self.merged_shape)
        return array.transpose(_TO_TORCH[array.ndim])


def load(network: nn.Module, path: str | pathlib.Path) -> dict[str, Any]:
    """Read a weight file, .pth, .safetensors or .npz, into a network's variables.

    Raises:
        InputError: a file that cannot be read or does not fit.
    """
    return import_state_dict(network, state_dict.read_state_dict(path))


def save(network: nn.Module, variables: Any, path: str | pathlib.Path) -> None:
    """Write a network's variables with torchvision's names; see :func:`load`.

    Raises:
        InputError: a network that torchvision has no names for or that has another
            activation, or a file ending that is not known.
    """
    state_dict.write_state_dict(path, export_state_dict(network, variables))


def import_state_dict(
    network: nn.Module, state: Mapping[str, Any], *, with_coefficients: bool = True
) -> dict[str, Any]:
    """Return a network's variables from torchvision's.

    Args:
        network: one with ImageNet's stem of the ResNet and HB-Net or the DenseNet and
            AGD-Net family, of torchvision's blocks and shortcuts (stage sizes and
            widths of any size), or a vision transformer with a class token, of any
            size.
        state: name -> array, or tensor of torch's; the counters
            ``num_batches_tracked`` are ignored.
        with_coefficients: at their initial values; else they are left out.

    Returns:
        ``{"params": ..., "batch_stats": ...}``, float32.

    Raises:
        InputError: a network that torchvision has no names for, or a state dict with
            missing, extra or misshapen entries, or with values that no weights have.
    """
    if state_dict.has_own_names(state):
        raise InputError(
            "the state dict has this library's names, not torchvision's: read its file "
            "with optnet_jax.weights.state_dict.load_variables"
        )
    state = _as_today(state)
    stems = (state.get(f"{n}.weight") for n in ("features.conv0", "conv1", "conv_proj"))
    stem = next((s for s in stems if s is not None and s.ndim == 4), np.empty((1, 3)))
    position = state.get("encoder.pos_embedding")
    images = _images(network, stem.shape[1], position)
    leaves, coefficients = _leaves(network, images)
    _check(
        "the state dict does not fit",
        {key: array.shape for key, array in state.items()},
        {key: leaf.torch_shape for leaf in leaves for key in leaf.keys},
        "give the network the fields, such as num_classes, that the weights were made "
        "with",
    )
    flat = {}
    for leaf in leaves:
        arrays = [
            leaf.from_torch(state_dict.checked_weight(key, state[key]))
            for key in leaf.keys
        ]
        flat[leaf.path] = jnp.asarray(np.stack(arrays) if leaf.stacked else arrays[0])
    if with_coefficients and coefficients:
        flat |= _initial(network, images, coefficients)
    return unflatten_dict(flat)


def export_state_dict(network: nn.Module, variables: Any) -> state_dict.StateDict:
    """Return a network's variables under torchvision's names.

    What torchvision's network has no place for, the learned coefficients, is left out:
    of HB-Net's and AGD-Net's weights it makes ResNet and DenseNet.

    Returns:
        Name -> float32 array, complete for ``load_state_dict(strict=True)`` of
        torchvision's network of the same sizes: the counters ``num_batches_tracked``
        are there and 0.

    Raises:
        InputError: a network that torchvision has no names for or that has another
            activation, or variables that are not the network's.
    """
    flat: Any = flatten_dict(dict(variables))
    leaves, coefficients = _leaves(network, _images(network, *_stem(flat)))
    own = "gelu" if hasattr(network, "patch_size") else "relu"
    _check_fields(network, {"activation": (own,)})
    collections = {leaf.path[0] for leaf in leaves}  # what is sown is not looked at
    _check(
        "the variables do not fit",
        {
            "/".join(path): np.shape(value)
            for path, value in flat.items()
            if path[0] in collections and path not in coefficients
        },
        {"/".join(leaf.path): leaf.shape for leaf in leaves},
        "give params and batch_stats, as network.apply takes them, of a network with "
        "the same fields",
    )
    state = {}
    for leaf in leaves:
        value = np.asarray(flat[leaf.path], np.float32)
        arrays = value if leaf.stacked else [value]
        for key, array in zip(leaf.keys, arrays, strict=True):
            state[key] = leaf.to_torch(array)
            if key.endswith("running_var"):
                counter = key.replace("running_var", "num_batches_tracked")
                state[counter] = np.zeros((), np.int64)
    return in_one(state)


def _stem(flat: Mapping[tuple, Any]) -> tuple[Any, Any]:
    """Return the channels of a network's images, 3 if unknown, and its positions."""
    for stem in (("stem_conv",), ("stem", "conv")):
        kernel = flat.get(("params", *stem, "kernel"))
        if kernel is not None:
            return kernel.shape[2], flat.get(("params", "stem", "position"))
    return 3, None


def _images(network: nn.Module, channels: int, position: Any) -> jax.ShapeDtypeStruct:
    """Return a batch that a network is for, with a patch for each position."""
    # In a row, as no shape tells their sides; the first position is the class token's.
    patches = np.shape(position)[1] - 1 if np.ndim(position) == 3 else 1
    patch = getattr(network, "patch_size", None)
    size = (patch, patch * max(patches, 1)) if patch else (224, 224)
    return jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)


def _leaves(network: nn.Module, images: Any) -> tuple[list[_Leaf], list[tuple]]:
    """Return the leaves that torchvision has, and the paths of the coefficients."""
    family = "densenet" if getattr(network, "dense", False) else "resnet"
    if hasattr(network, "patch_size"):
        family = "vit"
    elif getattr(network, "stem", None) != "imagenet":
        raise InputError(
            "torchvision's weights fit networks with ImageNet's stem only, such as "
            "resnet34, hb_net34, densenet121, agd_net121, and vision transformers"
        )
    if getattr(network, "tied", False):
        raise InputError(
            "torchvision has no weights for stages whose units share theirs: use "
            "tied=False"
        )
    _check_fields(network, _CHOICES[family])
    key = jax.random.key(0)
    with declared() as learned:
        shapes: Any = flatten_dict(jax.eval_shape(network.init, key, images))
    leaves, coefficients, unknown = [], [], []
    for path, value in shapes.items():
        keys = _keys(path, value.shape, shapes, family)
        if keys:
            stacked = _SCANNED in "/".join(path)
            leaves.append(_Leaf(path, value.shape, keys, stacked))
        elif is_coefficient(".".join(path), learned):
            coefficients.append(path)
        else:
            unknown.append("/".join(path[1:]))
    if unknown:
        raise InputError(
            f"torchvision has no weights for {', '.join(sorted(set(unknown)))}"
        )
    return leaves, coefficients


def _check_fields(network: nn.Module, known: Mapping[str, tuple[str, ...]]) -> None:
    for field, choices in known.items():
        value = getattr(network, field, None)
        for name in value if isinstance(value, tuple | list) else (value,):
            if isinstance(name, str) and name not in choices:
                names = " or ".join(f'"{choice}"' for choice in choices)
                raise InputError(
                    f'torchvision has no weights for {field}="{name}": use '
                    f"{field}={names}"
                )


def _keys(path: tuple, shape: tuple, shapes: Any, family: str) -> tuple[str, ...]:
    """Return the names of a leaf's steps, none where torchvision has no such leaf."""
    name = "/".join(path[1:])
    has_transition = any(other[1:3] == (path[1], "transition") for other in shapes)
    paths = [name]
    if _SCANNED in name:
        steps = range(shape[0])
        paths = [name.replace(_SCANNED, f"/layer_{k}/") for k in steps]
    names = [
        torchvision_name(p, family=family, has_transition=has_transition) for p in paths
    ]
    return tuple(name for name in names if name is not None)


def _initial(network: nn.Module, images: Any, paths: list[tuple]) -> dict[tuple, Any]:
    """Return the coefficients' initial values; the rest of the program is dead code."""

    def coefficients(key: jax.Array) -> dict[tuple, Any]:
        flat: Any = flatten_dict(network.init(key, jnp.zeros(images.shape)))
        return {path: flat[path] for path in paths}

    return jax.jit(coefficients)(jax.random.key(0))


def _as_today(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return a state dict without counters, under today's names."""
    today: dict[str, np.ndarray] = {}
    for key, value in state.items():
        name = modern_name(key)
        if name.endswith("num_batches_tracked"):
            continue
        if name in today:
            raise InputError(f"the state dict has two entries for {name}")
        today[name] = state_dict.at_least_float32(value)
    return in_parts(today)


def _check(
    cause: str, found: Mapping[str, tuple], expected: Mapping[str, tuple], cure: str
) -> None:
    """Refuse names and shapes that are not those expected, naming the first misfits."""
    problems = [
        f"{name} is {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems += [f"missing {name}" for name in expected if name not in found]
    problems += [f"extra {name}" for name in found if name not in expected]
    if problems:
        more = len(problems) - _SHOWN
        raise InputError(
            f"{cause}: {'; '.join(problems[:_SHOWN])}"
            f"{f' and {more} more' if more > 0 else ''}: {cure}"
        )
