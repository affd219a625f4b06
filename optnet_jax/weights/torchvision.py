"""torchvision's weights in and out: ResNet into HB-Net, DenseNet into AGD-Net.

>>> from optnet_jax.networks import create
>>> from optnet_jax.weights import torchvision
>>> network = create("densenet121")
>>> variables = torchvision.load(network, "densenet121.pth")  # doctest: +SKIP
>>> torchvision.save(network, variables, "mine.safetensors")  # doctest: +SKIP

A network of the family needs no weights but torchvision's: what HB-Net or AGD-Net has
beyond them are coefficients, which an import leaves at the values that they start from.
So ``create("hb_net34")`` starts from ResNet-34's weights and ``create("agd_net121")``
from DenseNet-121's.

torchvision's running variance is the unbiased one; it is taken as it is.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from optnet_jax.errors import InputError
from optnet_jax.weights import state_dict
from optnet_jax.weights.torchvision_names import (
    WEIGHT_LEAVES,
    modern_name,
    torchvision_name,
)

_SCANNED = "/layers/"
_SHOWN = 4
# HWIO to OIHW, [in, out] to [out, in], and back, by the number of axes.
_TO_TORCH = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
_TO_FLAX = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}


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
    def torch_shape(self) -> tuple[int, ...]:
        """The shape of each of the tensors: OIHW for a convolution."""
        shape = self.shape[self.stacked :]
        return tuple(shape[axis] for axis in _TO_TORCH[len(shape)])


def load(network: nn.Module, path: str | pathlib.Path) -> dict[str, Any]:
    """Read a weight file, .pth, .safetensors or .npz, into a network's variables.

    Raises:
        InputError: a file that cannot be read or does not fit.
    """
    return import_state_dict(network, state_dict.read_state_dict(path))


def save(network: nn.Module, variables: Any, path: str | pathlib.Path) -> None:
    """Write a network's variables with torchvision's names; see :func:`load`.

    Raises:
        InputError: a network that torchvision has no names for, or a file ending that
            is not known.
    """
    state_dict.write_state_dict(path, export_state_dict(network, variables))


def import_state_dict(network: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network's variables from torchvision's.

    Args:
        network: one with ImageNet's stem of the ResNet and HB-Net or the DenseNet and
            AGD-Net family, of torchvision's geometry (stage sizes and widths of any
            size).
        state: name -> array; the counters ``num_batches_tracked`` are ignored.

    Returns:
        ``{"params": ..., "batch_stats": ...}``, float32.

    Raises:
        InputError: a network that torchvision has no names for, or a state dict with
            missing, extra or misshapen entries, or with values that no weights have.
    """
    flat: Any = flatten_dict(import_weights(network, state))
    channels = flat["params", "stem_conv", "kernel"].shape[2]
    _, coefficients = _leaves(network, channels)
    return unflatten_dict(flat | dict(_initial(network, channels, coefficients)))


def import_weights(network: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what :func:`import_state_dict` does, without the coefficients."""
    if state_dict.has_own_names(state):
        raise InputError(
            "the state dict has this library's names, not torchvision's: read its file "
            "with optnet_jax.weights.state_dict.load_variables"
        )
    state = _as_today(state)
    stem = state.get("features.conv0.weight", state.get("conv1.weight"))
    channels = stem.shape[1] if stem is not None and stem.ndim == 4 else 3
    leaves, _ = _leaves(network, channels)
    _check(state, leaves)
    flat = {}
    for leaf in leaves:
        axes = _TO_FLAX[len(leaf.torch_shape)]
        arrays = [
            state_dict.checked_weight(key, state[key]).transpose(axes)
            for key in leaf.keys
        ]
        flat[leaf.path] = jnp.asarray(np.stack(arrays) if leaf.stacked else arrays[0])
    return unflatten_dict(flat)


def export_state_dict(network: nn.Module, variables: Any) -> state_dict.StateDict:
    """Return a network's variables under torchvision's names.

    What torchvision's network has no place for, the learned coefficients, is left out.

    Returns:
        Name -> float32 array, complete for ``load_state_dict(strict=True)``: the
        counters ``num_batches_tracked`` are there and 0.

    Raises:
        InputError: a network that torchvision has no names for.
    """
    flat: Any = flatten_dict(dict(variables))
    stem = flat.get(("params", "stem_conv", "kernel"))
    if stem is None:
        raise InputError(
            f"torchvision has no names for the parts of {type(network).__name__}: use "
            "optnet_jax.weights.state_dict.save_variables"
        )
    channels = stem.shape[2]
    state = {}
    for leaf in _leaves(network, channels)[0]:
        value = np.asarray(flat[leaf.path], np.float32)
        arrays = value if leaf.stacked else [value]
        for key, array in zip(leaf.keys, arrays, strict=True):
            state[key] = array.transpose(_TO_TORCH[array.ndim])
            if key.endswith("running_var"):
                counter = key.replace("running_var", "num_batches_tracked")
                state[counter] = np.zeros((), np.int64)
    return state


def _leaves(network: nn.Module, channels: int) -> tuple[list[_Leaf], list[tuple]]:
    """Return the leaves that torchvision has, and the paths of the coefficients."""
    if getattr(network, "stem", None) != "imagenet":
        raise InputError(
            "torchvision's weights fit networks with ImageNet's stem only, such as "
            "resnet34, hb_net34, densenet121, agd_net121"
        )
    if getattr(network, "tied", False):
        raise InputError(
            "torchvision has no weights for stages whose units share theirs: use "
            "tied=False"
        )
    dense = getattr(network, "dense", False)
    shapes: Any = flatten_dict(jax.eval_shape(*_initialisation(network, channels)))
    leaves, coefficients, unknown = [], [], []
    for path, value in shapes.items():
        keys = _keys(path, value.shape, shapes, dense)
        if keys:
            stacked = _SCANNED in "/".join(path)
            leaves.append(_Leaf(path, value.shape, keys, stacked))
        elif path[-1] in WEIGHT_LEAVES:
            unknown.append("/".join(path[1:]))
        else:
            coefficients.append(path)
    if unknown:
        raise InputError(
            f"torchvision has no weights for {', '.join(sorted(set(unknown)))}"
        )
    return leaves, coefficients


def _keys(path: tuple, shape: tuple, shapes: Any, dense: bool) -> tuple[str, ...]:
    """Return the names of a leaf's steps, none where torchvision has no such leaf."""
    name = "/".join(path[1:])
    has_transition = any(other[1:3] == (path[1], "transition") for other in shapes)
    paths = [name]
    if _SCANNED in name:
        steps = range(shape[0])
        paths = [name.replace(_SCANNED, f"/layer_{k}/") for k in steps]
    names = [
        torchvision_name(p, dense=dense, has_transition=has_transition) for p in paths
    ]
    return tuple(name for name in names if name is not None)


def _initialisation(network: nn.Module, channels: int) -> tuple:
    images = jax.ShapeDtypeStruct((1, 224, 224, channels), jnp.float32)
    return network.init, jax.random.key(0), images


def _initial(
    network: nn.Module, channels: int, paths: list[tuple]
) -> Iterator[tuple[tuple, Any]]:
    """Yield the coefficients' initial values: the rest of the program is dead code."""
    if not paths:
        return
    init, key, images = _initialisation(network, channels)

    def coefficients(key: jax.Array) -> list[jax.Array]:
        flat: Any = flatten_dict(init(key, jnp.zeros(images.shape)))
        return [flat[path] for path in paths]

    yield from zip(paths, jax.jit(coefficients)(key), strict=True)


def _as_today(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return a state dict without counters, under today's names."""
    today: dict[str, np.ndarray] = {}
    for key, value in state.items():
        name = modern_name(key)
        if name.endswith("num_batches_tracked"):
            continue
        if name in today:
            raise InputError(f"the state dict has two entries for {name}")
        today[name] = np.asarray(value)
    return today


def _check(state: Mapping[str, np.ndarray], leaves: list[_Leaf]) -> None:
    expected = {key: leaf.torch_shape for leaf in leaves for key in leaf.keys}
    problems = [
        f"{key} is {state[key].shape} instead of {shape}"
        for key, shape in expected.items()
        if key in state and state[key].shape != shape
    ]
    problems += [f"missing {key}" for key in expected if key not in state]
    problems += [f"extra {key}" for key in state if key not in expected]
    if problems:
        more = len(problems) - _SHOWN
        raise InputError(
            f"the state dict does not fit: {'; '.join(problems[:_SHOWN])}"
            f"{f' and {more} more' if more > 0 else ''}: give the network the fields, "
            "such as num_classes, that the weights were made with"
        )
