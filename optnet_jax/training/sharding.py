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
    sharding = sharded(mesh)

    def put(value: Any) -> jax.Array:
        if not isinstance(value, jax.Array):
            return jax.make_array_from_process_local_data(sharding, np.asarray(value))
        if jax.process_count() == 1:
            return jax.device_put(value, sharding)
        return _from_local_rows(value, sharding)

    return {name: put(value) for name, value in batch.items()}


def _from_local_rows(rows: jax.Array, sharding: NamedSharding) -> jax.Array:
    """Make every process's rows one array, without a detour through the host."""
    shape = (rows.shape[0] * jax.process_count(), *rows.shape[1:])
    places = sharding.addressable_devices_indices_map(shape)
    starts = {device: index[0].start or 0 for device, index in places.items() if index}
    first = min(starts.values())
    length = sharding.shard_shape(shape)[0]
    shards = [
        jax.device_put(rows[start - first : start - first + length], device)
        for device, start in starts.items()
    ]
    return jax.make_array_from_single_device_arrays(shape, sharding, shards)
