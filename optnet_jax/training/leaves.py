"""Trees as named leaves: what a checkpoint stores, checks and compares."""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from optnet_jax.errors import InputError

Leaves = dict[str, Any]


def flatten(tree: Any) -> Leaves:
    """Name the leaves of a tree by their path, such as ``params.head.kernel``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
    }


def unflatten(template: Any, leaves: Mapping[str, Any]) -> Any:
    """Put named leaves back into the structure of ``template``."""
    return jax.tree.unflatten(
        jax.tree.structure(template), [leaves[name] for name in flatten(template)]
    )


def first_not_finite(leaves: Mapping[str, Any]) -> str | None:
    """Name the first leaf that has a NaN or an infinity; ``None`` if all are finite."""
    for name, leaf in leaves.items():
        if not bool(np.isfinite(np.asarray(leaf)).all()):
            return name
    return None


def leaf_checksums(leaves: Mapping[str, Any]) -> dict[str, str]:
    """Hash dtype, shape and bytes of each leaf (replicated arrays or NumPy)."""
    # A scalar gets the shape (1,), as in every checkpoint so far.
    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in leaves.items()}
    return {
        name: digest(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        for name, array in arrays.items()
    }


def tree_checksum(tree: Any) -> str:
    """Return a checksum of a tree: runs that agree on it agree bit for bit."""
    lines = sorted(f"{k}={v}" for k, v in leaf_checksums(flatten(tree)).items())
    return digest("\n".join(lines).encode())


def digest(content: bytes) -> str:
    """Return a hash of bytes."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def check_same_network(
    stored: Mapping[str, Any],
    expected: Mapping[str, Any],
    where: object,
    cure: str = "use the config that it was trained with, or another --workdir",
) -> None:
    """Refuse leaves of another network.

    Raises:
        InputError: naming the first difference, with both shapes.
    """
    for name in {**expected, **stored}:
        if name not in stored:
            difference = f"it has no {name}, which this one needs"
        elif name not in expected:
            difference = f"it has {name}, which this one lacks"
        else:
            there, here = (tuple(leaves[name].shape) for leaves in (stored, expected))
            if there == here:
                continue
            difference = f"{name} has shape {there} there and {here} here"
        raise InputError(f"{where} is of another network: {difference}; {cure}")
