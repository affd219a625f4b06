"""The coefficients that a network learns: α and β of (16)-(18) and (20)."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from optnet_jax.training.leaves import flatten

# Leaf names of learned coefficients in linen's ``params``.
NAMES = frozenset({"alpha", "beta", "beta1", "beta2"})


def learned_coefficients(params: Any) -> dict[str, np.ndarray]:
    """The learned coefficients by path, on the host.

    >>> import jax.numpy as jnp
    >>> params = {"stage1": {"alpha": jnp.ones(3)}, "head": {"kernel": jnp.ones(2)}}
    >>> learned_coefficients(params)
    {'stage1.alpha': array([1., 1., 1.], dtype=float32)}
    """
    chosen = {
        name: leaf
        for name, leaf in flatten(params).items()
        if name.rpartition(".")[2] in NAMES
    }
    return {name: np.asarray(leaf) for name, leaf in jax.device_get(chosen).items()}


class CoefficientLog:
    """The learned coefficients at each evaluation, in one ``.npz`` file.

    The file has ``step`` [n], ``epoch`` [n], and for each path an array [n, ...].

    Args:
        path: ``<workdir>/coefficients.npz``.
        start_step: Step that the run goes on from; later rows of an earlier, killed
            start are dropped.
    """

    def __init__(self, path: Path, start_step: int):
        self._path = path
        self._rows: dict[str, list[np.ndarray]] = {}
        if path.exists():
            with np.load(path) as file:
                kept = file["step"] <= start_step
                self._rows = {name: list(file[name][kept]) for name in file.files}

    def append(
        self, step: int, epoch: float, coefficients: dict[str, np.ndarray]
    ) -> None:
        """Add one row and write the file anew; nothing without coefficients."""
        if not coefficients:
            return
        row = {"step": np.int64(step), "epoch": np.float64(epoch), **coefficients}
        for name, value in row.items():
            self._rows.setdefault(name, []).append(np.asarray(value))
        temporary = self._path.with_name(".coefficients.tmp.npz")
        np.savez(temporary, **{k: np.stack(v) for k, v in self._rows.items()})  # pyright: ignore[reportArgumentType]
        temporary.replace(self._path)
