"""State dicts in files: .npz, .safetensors, and torch's .pth."""

from __future__ import annotations

import importlib
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from optnet_jax.errors import InputError

StateDict = dict[str, np.ndarray]


def read_state_dict(path: str | pathlib.Path) -> StateDict:
    """Read weights by name. No file is allowed to run code.

    Args:
      path: a file that ends in .npz, .safetensors (with the safetensors package), .pth
        or .pt (with torch).

    Returns:
      Name -> array; half precision is widened to float32.

    Raises:
      InputError: no such file, another ending, a package that is missing, or a file
        that does not hold a state dict.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"there is no weight file {path}")
    reader = _by_suffix(path, _read_npz, _read_safetensors, _read_torch)
    try:
        state = reader(path)
    except InputError:
        raise
    except (ValueError, RuntimeError, EOFError, OSError, pickle.UnpicklingError) as e:
        raise InputError(
            f"{path} does not hold a state dict (name -> tensor) that can be read "
            f"without running code: {str(e).splitlines()[0]}"
        ) from e
    return {name: _at_least_float32(array) for name, array in state.items()}


def write_state_dict(path: str | pathlib.Path, state: Mapping[str, Any]) -> None:
    """Write weights by name.

    Args:
      path: as in :func:`read_state_dict`.
      state: name -> array.

    Raises:
      InputError: another ending, or a package that is missing.
    """
    path = pathlib.Path(path)
    writer = _by_suffix(path, _write_npz, _write_safetensors, _write_torch)
    writer(path, {name: np.ascontiguousarray(array) for name, array in state.items()})


def _by_suffix(path: pathlib.Path, npz: Any, safetensors: Any, torch: Any) -> Any:
    functions = {".npz": npz, ".safetensors": safetensors, ".pth": torch, ".pt": torch}
    if path.suffix not in functions:
        raise InputError(
            f"{path.name} is no weight file: its name must end in "
            f"{', '.join(functions)}"
        )
    return functions[path.suffix]


def _package(module: str, path: pathlib.Path) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise InputError(
            f"{path.suffix} files need {name}: pip install {name}, or convert the file "
            f"to .npz where it is installed"
        ) from error


def _read_npz(path: pathlib.Path) -> StateDict:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _read_safetensors(path: pathlib.Path) -> StateDict:
    package = _package("safetensors.numpy", path)
    try:
        return package.load_file(path)
    except Exception as error:
        # Its own exception type derives from Exception alone.
        raise ValueError(str(error)) from error


def _read_torch(path: pathlib.Path) -> StateDict:
    torch = _package("torch", path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        raise ValueError("it holds something else")
    floating = {
        name: t.float() if t.is_floating_point() and t.itemsize < 4 else t
        for name, t in state.items()
    }
    return {name: tensor.detach().numpy() for name, tensor in floating.items()}


def _write_npz(path: pathlib.Path, state: StateDict) -> None:
    np.savez(path, **state)  # pyright: ignore


def _write_safetensors(path: pathlib.Path, state: StateDict) -> None:
    _package("safetensors.numpy", path).save_file(state, path)


def _write_torch(path: pathlib.Path, state: StateDict) -> None:
    torch = _package("torch", path)
    torch.save({name: torch.from_numpy(a.copy()) for name, a in state.items()}, path)


def _at_least_float32(array: np.ndarray) -> np.ndarray:
    # Tells bfloat16, which numpy knows through ml_dtypes only, from the integers.
    half = array.dtype.itemsize < 4 and array.dtype.kind not in "iub"
    return array.astype(np.float32) if half else array
