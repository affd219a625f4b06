import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.training import sharding


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
def test_a_batch_is_split_and_keeps_its_order(convert):
    mesh = sharding.data_mesh()
    batch = {"image": convert(np.arange(48.0).reshape(16, 3))}
    put = sharding.put_batch(batch, mesh)["image"]
    assert put.sharding.is_equivalent_to(sharding.sharded(mesh), 2)
    assert [shard.data.shape for shard in put.addressable_shards] == [(2, 3)] * 8
    np.testing.assert_array_equal(put, batch["image"])


def test_sizes_that_divide_are_accepted():
    sharding.check_batch_size(64, 8)
    sharding.check_batch_size(64, 4, accumulate=2)


@pytest.mark.parametrize(
    ("size", "devices", "accumulate", "advice"),
    [(100, 8, 1, "96 or 104"), (4, 8, 1, "8 or 16"), (48, 8, 4, "32 or 64")],
)
def test_sizes_that_do_not_divide_are_refused_with_the_nearest(
    size, devices, accumulate, advice
):
    with pytest.raises(InputError, match=f"{size} cannot.*=?{advice}"):
        sharding.check_batch_size(size, devices, accumulate)
