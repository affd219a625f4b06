"""The coefficients that a network learns: α and β of (16)-(18) and (20), and others."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optnet_jax.runs import files, json_lines
from optnet_jax.training.leaves import flatten


def learned_coefficients(params: Any, paths: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the learned coefficients by path, on the host.

    >>> import jax.numpy as jnp
    >>> params = {"stage1": {"alpha": jnp.ones(3)}, "head": {"kernel": jnp.ones(2)}}
    >>> learned_coefficients(params, {"stage1.alpha", "stage1.beta"})
    {'stage1.alpha': array([1., 1., 1.], dtype=float32)}
    """
    leaves = flatten(params)
    chosen = {name: leaves[name] for name in leaves if name in paths}
    return {name: np.asarray(leaf) for name, leaf in jax.device_get(chosen).items()}


def read(workdir: Path) -> dict[str, np.ndarray]:
    """Read what a run has recorded: a line of ``coefficients.jsonl`` an evaluation.

    Returns:
        ``step`` [n], ``epoch`` [n] and an array [n, ...] for each path, of those rows
        that have the last one's shapes; empty where nothing is recorded.

    Raises:
        InputError: if there is something else than a regular file.
    """
    lines = json_lines.read(workdir / "coefficients.jsonl")
    rows = [row for row in map(_as_arrays, lines) if row]
    shapes = [{name: array.shape for name, array in row.items()} for row in rows]
    kept = [row for row, of in zip(rows, shapes, strict=True) if of == shapes[-1]]
    names = kept[0] if kept else ()
    return {name: np.stack([row[name] for row in kept]) for name in names}


def write_arrays(workdir: Path) -> None:
    """Write what :func:`read` returns into ``coefficients.npz``, for other programs."""
    arrays: Any = read(workdir)
    path = workdir / "coefficients.npz"
    if arrays:
        files.write_durably(path, lambda file: np.savez(file, **arrays))
    else:
        path.unlink(missing_ok=True)


def _as_arrays(row: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return one row as arrays, of the type of parameters; empty if it is damaged."""
    types = {"step": np.int64, "epoch": np.float64}
    try:
        arrays = {n: np.asarray(v, types.get(n, np.float32)) for n, v in row.items()}
    except (TypeError, ValueError, OverflowError):
        return {}
    return arrays if np.shape(arrays.get("epoch", [0])) == () else {}
