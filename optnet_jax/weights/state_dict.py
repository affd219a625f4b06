"""Weights in files: .npz, .safetensors, and torch's .pth."""

import importlib
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import numpy as safetensors

from optnet_jax.errors import InputError, shown
from optnet_jax.runs.files import open_regular, readable, write_output

StateDict = dict[str, np.ndarray]

# Under which a training script saves the weights beside its optimiser's state.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_STARTS = {
    b"PK\x03\x04": "a zip archive, as .npz and .pth files are",
    b"\x93NUMPY": "one array of NumPy's, a .npy file: write .npz with np.savez",
    b"\x89HDF": "an HDF5 file",
    b"<": "a web page or XML",
    b"version https://git-lfs": "a pointer of Git LFS: fetch it with git lfs pull",
}


def save_variables(path: str | pathlib.Path, variables: Mapping[str, Any]) -> None:
    """Write the variables of any network, learned coefficients included.

    Their names are their paths, ``params.stage_0.alpha``. Such a file holds what a
    checkpoint of the network does, and is read wherever weight files are. It keeps
    float64, which :func:`load_variables` narrows to float32.

    Args:
        path: .npz, .safetensors, .pth or .pt.
        variables: ``params`` and ``batch_stats``.

    Raises:
        InputError: variables without params, or as :func:`write_state_dict`.
    """
    state = flatten_dict(dict(variables), sep=".")
    if not has_own_names(state):
        raise InputError(
            "the variables have no params: give them all, as network.init returns "
            "them, not variables['params']"
        )
    write_state_dict(path, state)


def load_variables(path: str | pathlib.Path) -> dict[str, Any]:
    """Read what :func:`save_variables` has written.

    Returns:
        The variables, nested: float32, whatever the file has, but for the counts of
        ``batch_stats``.

    Raises:
        InputError: as :func:`read_state_dict`; a file with torchvision's names is for
            :func:`optnet_jax.weights.torchvision.load`.
    """
    state = read_state_dict(path)
    if not has_own_names(state):
        raise InputError(
            f"{path} does not hold names such as params.head.kernel: read "
            "torchvision's names with optnet_jax.weights.torchvision.load"
        )
    weights = {name: checked_weight(name, array) for name, array in state.items()}
    for name in weights:
        parts = name.split(".")
        for end in range(1, len(parts)):
            if (inner := ".".join(parts[:end])) in weights:
                raise InputError(
                    f"{path} holds both {inner} and {name}, which is inside it: the "
                    "weights are damaged, fetch or write them again"
                )
    return unflatten_dict(weights, sep=".")


def has_own_names(state: Mapping[str, Any]) -> bool:
    """Return whether the names are paths of variables, not torchvision's."""
    return any(name.startswith("params.") for name in state)


def checked_weight(name: str, array: np.ndarray) -> np.ndarray:
    """Return an entry of a state dict as float32, a count of ``batch_stats`` as it is.

    Args:
        name: of the entry; a variance, by its name, is not negative.
        array: its value.

    Raises:
        InputError: a value that no weight has, as damaged files and diverged runs do.
    """
    if name.startswith("batch_stats.") and array.dtype.kind in "biu":
        return array
    cure = "the weights are damaged, fetch or write them again"
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(f"{name} is of {array.dtype}, which no weight is: {cure}")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{name} has values that are not finite: {cure}")
    if name.endswith(("running_var", ".var")) and (array < 0).any():
        raise InputError(f"{name} is a variance and has negative values: {cure}")
    return array


def read_state_dict(path: str | pathlib.Path) -> StateDict:
    """Read weights by name. No file is allowed to run code.

    A damaged file is refused. A changed number goes unnoticed in what has no checksum:
    .safetensors, and a .pth in the format that torch wrote before 1.6.

    Args:
        path: a file that ends in .npz, .safetensors, .pth or .pt (with torch).

    Returns:
        Name -> array; half precision is widened to float32.

    Raises:
        InputError: no such file, another ending, a package that is missing, or a file
            that does not hold a state dict.
    """
    path = pathlib.Path(path)
    _check_suffix(path)
    start = _start_of(path)
    try:
        if start.startswith(b"PK"):  # no reader holds the parts to their checksums
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise ValueError(f"{damaged} in it is damaged")
        state = {name: at_least_float32(a) for name, a in _read(path).items()}
        if not state:
            raise ValueError("it holds nothing")
        return state
    except InputError:
        raise
    except Exception as error:
        # The readers raise whatever the damaged byte leads to.
        # Not what follows the first sentence: torch's says how to run the code.
        cause = re.split(r"\. |\n", str(error) or type(error).__name__)[0][:100]
        kinds = [kind for begin, kind in _STARTS.items() if start.startswith(begin)]
        known = f"; its content is {kinds[0]}" if kinds else ""
        raise InputError(
            f"{path} does not hold a state dict (name -> tensor) that can be read "
            f"without running code ({cause}{known}): fetch or write the file again"
        ) from error


def write_state_dict(path: str | pathlib.Path, state: Mapping[str, Any]) -> None:
    """Write weights by name; what was there stays until the new file is complete.

    Half precision is widened to float32, as not every format has it.

    Raises:
        InputError: another ending, a package that is missing, what is no array of
            numbers, or a place that cannot be written.
    """
    path = pathlib.Path(path)
    _check_suffix(path)
    # Not ascontiguousarray, which makes a vector of a scalar.
    arrays = {
        name: np.asarray(at_least_float32(array), order="C")
        for name, array in state.items()
    }
    for name, array in arrays.items():
        if array.dtype.kind not in "biufc":
            raise InputError(f"{name} is no array of numbers but {shown(state[name])}")
    cure = "make room or give write permission, or choose another place"
    write_output(path, _content(path, arrays), cure)


def _check_suffix(path: pathlib.Path) -> None:
    if path.suffix not in (".npz", ".safetensors", ".pth", ".pt"):
        raise InputError(
            f"{path.name} is no weight file: its name must end in .npz, .safetensors, "
            ".pth, .pt"
        )


def _start_of(path: pathlib.Path) -> bytes:
    """Return the first bytes of a regular file that is not empty, links followed."""
    with readable(": give read permission, or name another weight file", path):
        try:
            file = open_regular(pathlib.Path(os.path.realpath(path)), os.O_RDONLY)
            with open(file, "rb") as opened:
                start = opened.read(32)
        except FileNotFoundError as error:
            target = f": it links to {os.readlink(path)}" if path.is_symlink() else ""
            raise InputError(f"there is no weight file {path}{target}") from error
    if not start:
        raise InputError(f"the weight file {path} is empty: fetch or write it again")
    return start


def _torch(path: pathlib.Path) -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise InputError(
            f"{path.suffix} files need torch: pip install torch, or convert the file "
            "to .npz where it is installed"
        ) from error


def _read(path: pathlib.Path) -> dict[str, Any]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    if path.suffix == ".safetensors":
        return safetensors.load_file(path)
    torch = _torch(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(state, Mapping):
        inner = (state[name] for name in _WRAPPERS if name in state)
        state = next((part for part in inner if isinstance(part, Mapping)), state)
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        raise ValueError("it holds something else")
    return dict(state)


def _content(path: pathlib.Path, state: Any) -> bytes | Callable[[Any], None]:
    if path.suffix == ".npz":
        return lambda file: np.savez(file, **state)
    if path.suffix == ".safetensors":
        return safetensors.save(state)
    torch = _torch(path)
    tensors = {name: torch.from_numpy(array.copy()) for name, array in state.items()}
    return lambda file: torch.save(tensors, file)


def at_least_float32(array: Any) -> np.ndarray:
    """Return an array, or a tensor of torch's, as NumPy's, half precision widened."""
    if hasattr(array, "detach"):  # NumPy takes neither a parameter nor bfloat16
        array = array.detach().cpu()
        half = array.is_floating_point() and array.itemsize < 4
        array = array.float() if half else array
    array = np.asarray(array)
    half = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 4
    return array.astype(np.float32) if half else array
