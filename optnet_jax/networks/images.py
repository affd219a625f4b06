"""What every network asks of its images."""

import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.errors import InputError, shown
from optnet_jax.kinds import check_byte_order

REAL = (jnp.bool_, jnp.integer, jnp.floating)


def check_images(images: jax.Array, smallest: int) -> None:
    """Check a batch of images.

    Args:
        images: the batch; whole numbers are taken as the floats that they are.
        smallest: the least height and width that the network's down-sampling leaves
            something of.

    Raises:
        InputError: it is no array [B, H, W, C] of real numbers, it is empty, or H or W
            is too small.
    """
    if not isinstance(images, jax.Array | np.ndarray):
        raise InputError(
            f"images must be an array [B, H, W, C], got {shown(images)}: "
            "numpy.asarray makes one of a list"
        )
    shape, dtype = images.shape, images.dtype
    if not any(jnp.issubdtype(dtype, kind) for kind in REAL):
        raise InputError(f"images must be real numbers, got an array of {dtype}")
    check_byte_order(images, "images")
    if len(shape) != 4:
        raise InputError(f"images must be [B, H, W, C], got shape {shape}")
    if 0 in shape:
        raise InputError(f"there must be images with channels, got shape {shape}")
    if min(shape[1:3]) < smallest:
        raise InputError(
            f"images of {shape[1]}x{shape[2]} are smaller than the network's "
            f"down-sampling allows: give at least {smallest}x{smallest}, or take a "
            f"network with fewer stages"
        )
