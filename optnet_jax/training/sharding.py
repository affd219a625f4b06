"""One mesh axis over all devices: the batch is sharded along it, the state copied."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from optnet_jax.errors import InputError

DATA_AXIS = "data"


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Return the mesh with the single axis ``data``; over all devices by default."""
    # jax.make_mesh gives explicit axes, under which reshapes over the batch raise.
    return Mesh(np.array(jax.devices() if devices is None else devices), (DATA_AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what every device holds whole: the state."""
    return NamedSharding(mesh, PartitionSpec())


def sharded(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays whose leading axis is the batch."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def check_batch_size(batch_size: int, devices: int, accumulate: int = 1) -> None:
    """Refuse a batch that cannot be sharded evenly.

    Raises:
        InputError: naming the nearest sizes that work.
    """
    unit = devices * accumulate
    if batch_size < 1 or batch_size % unit:
        below = max(unit, batch_size // unit * unit)
        raise InputError(
            f"batch size {batch_size} cannot be split over {devices} device(s) x "
            f"{accumulate} micro-batch(es): use --config.data.batch_size={below} or "
            f"{below + unit}"
        )


def put_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """Bring this process's share of a batch onto the devices.

    Args:
        batch: Arrays [B / processes, ...], on the host or (from a device-resident
            dataset) on a local device.
        mesh: The data mesh.

    Returns:
        Global arrays [B, ...] sharded along the batch axis.
    """
    return {
        name: jax.make_array_from_process_local_data(sharded(mesh), value)
        for name, value in batch.items()
    }
