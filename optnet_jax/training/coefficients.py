"""The coefficients that a network learns: α and β of (16)-(18) and (20), and others."""

import contextlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import logging

from optnet_jax.errors import one_line
from optnet_jax.runs import files, json_lines
from optnet_jax.runs.json_lines import JsonLines, Row
from optnet_jax.training.leaves import flatten


@contextlib.contextmanager
def declared() -> Iterator[set[str]]:
    """Collect what the modules that run inside the context declare as learned.

    A module declares its learned coefficients by a field ``learned``, the names of
    its parameters that are such: that a recurrence may call them what it likes is why
    no list of names can stand for it.

    >>> import jax.numpy as jnp
    >>> from optnet_jax.recurrences import heavy_ball
    >>> from optnet_jax.structures import Propagation
    >>> network = Propagation(heavy_ball(0.3), jnp.tanh, depth=2, learned=("beta1",))
    >>> with declared() as paths:
    ...     _ = network.init(jax.random.key(0), jnp.ones(4))
    >>> paths
    {'beta1'}

    Yields:
        The paths in ``params``, such as ``stage_0.alpha``; filled as modules run. A
        module that only hands the field on adds paths that no parameter has.
    """
    paths: set[str] = set()

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if module.scope is not None:
            names = getattr(module, "learned", ())
            paths.update(".".join((*module.path, name)) for name in names)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        yield paths


def learned_coefficients(params: Any, paths: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the learned coefficients by path, on the host.

    >>> import jax.numpy as jnp
    >>> params = {"stage1": {"alpha": jnp.ones(3)}, "head": {"kernel": jnp.ones(2)}}
    >>> learned_coefficients(params, {"stage1.alpha", "stage1.beta"})
    {'stage1.alpha': array([1., 1., 1.], dtype=float32)}

    Args:
        params: The parameters.
        paths: From :func:`declared`.
    """
    leaves = flatten(params)
    chosen = {name: leaves[name] for name in leaves if name in paths}
    return {name: np.asarray(leaf) for name, leaf in jax.device_get(chosen).items()}


class CoefficientLog:
    """The learned coefficients at each evaluation, kept in two files.

    ``coefficients.jsonl`` gets one row at a time and survives a kill. From it comes
    ``coefficients.npz``, with ``step`` [n], ``epoch`` [n] and for each path an array
    [n, ...]. It is written whole: whenever n has grown by a twentieth, and at the end,
    so that the time for all evaluations does not grow with their square.

    Args:
        path: ``<workdir>/coefficients.npz``.
        start_step: Step that the run goes on from; later rows of an earlier, killed
            start are dropped.
        expected: How many rows the checkpoint says there were up to that step.
    """

    GROWTH = 1.05

    def __init__(self, path: Path, start_step: int, expected: int = 0):
        self._path = path
        self._lines_path = path.with_suffix(".jsonl")
        self._start = start_step, expected
        self._lines: JsonLines | None = None
        self._rows: list[dict[str, np.ndarray]] = []
        self._written = 0
        if start_step == 0:
            path.unlink(missing_ok=True)
        if expected or path.exists() or self._lines_path.exists():
            self._open()

    @property
    def lines(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def append(
        self, step: int, epoch: float, coefficients: Mapping[str, np.ndarray]
    ) -> None:
        """Add one row; nothing without coefficients."""
        if not coefficients:
            return
        lines = self._lines or self._open()
        values = {name: value.tolist() for name, value in coefficients.items()}
        lines.append({"step": int(step), "epoch": float(epoch), **values})
        self._rows.append(_as_arrays({"step": step, "epoch": epoch, **coefficients}))
        if len(self._rows) >= self.GROWTH * self._written:
            self._write()

    def sync(self) -> None:
        """Make the rows safe from a power cut."""
        if self._lines is not None:
            self._lines.sync()

    def close(self) -> None:
        """Write what ``coefficients.npz`` lacks."""
        if self._lines is not None:
            self._lines.close()
            if self._written != len(self._rows):
                self._write()

    def _open(self) -> JsonLines:
        start_step, expected = self._start
        if start_step > 0:
            # An older version wrote the .npz alone; or the lines are what is damaged.
            rows = [row for row in _rows_of(read(self._path)) if "step" in row]
            if len(rows) > len(json_lines.read(self._lines_path)):
                text = "".join(f"{json.dumps(row)}\n" for row in rows)
                files.write_durably(self._lines_path, text.encode())
        self._lines = JsonLines(self._lines_path, start_step, expected)
        self._rows = [row for row in map(_as_arrays, self._lines.rows) if row]
        return self._lines

    def _write(self) -> None:
        rows = [row for row in self._rows if _shapes(row) == _shapes(self._rows[-1])]
        stacked: Any = {n: np.stack([row[n] for row in rows]) for n in rows[0]}
        files.write_durably(self._path, lambda file: np.savez(file, **stacked))
        self._written = len(self._rows)


def read(path: Path) -> dict[str, np.ndarray]:
    """Read ``coefficients.npz``; empty, after a warning, where it is damaged.

    Returns:
        ``step`` [n], ``epoch`` [n] and an array [n, ...] for each path; or nothing.

    Raises:
        InputError: if there is something else than a regular file.
    """
    try:
        content = files.read_regular(path)
    except FileNotFoundError:
        return {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        lengths = {len(array.astype(float)) for array in arrays.values()}
        if len(lengths) != 1 or arrays["epoch"].ndim != 1 or arrays["step"].ndim != 1:
            raise ValueError("its arrays do not belong together")
    except Exception as error:
        # NumPy and zipfile raise whatever the damaged byte leads to.
        cause = one_line(error, 100)
        logging.warning("%s is damaged (%s): it is left out", path, cause)
        return {}
    return arrays


def _rows_of(arrays: Mapping[str, np.ndarray]) -> list[Row]:
    lists = {name: array.tolist() for name, array in arrays.items()}
    return [
        dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)
    ]


def _as_arrays(row: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return one row as arrays, of the type of parameters; empty if it is damaged."""
    types = {"step": np.int64, "epoch": np.float64}
    try:
        arrays = {n: np.asarray(v, types.get(n, np.float32)) for n, v in row.items()}
    except (TypeError, ValueError, OverflowError):
        return {}
    return arrays if "epoch" in arrays else {}


def _shapes(row: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in row.items()}
