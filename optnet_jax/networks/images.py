"""What every network asks of its images."""

from __future__ import annotations

from optnet_jax.errors import InputError


def check_images(shape: tuple[int, ...], smallest: int) -> None:
    """Check the shape of a batch of images.

    Args:
      shape: of the batch.
      smallest: the least height and width that the network's down-sampling leaves
        something of.

    Raises:
      InputError: it is no [B, H, W, C], or H or W is too small.
    """
    if len(shape) != 4:
        raise InputError(f"images must be [B, H, W, C], got shape {shape}")
    if min(shape[1:3]) < smallest:
        raise InputError(
            f"images of {shape[1]}x{shape[2]} are smaller than the network's "
            f"down-sampling allows: give at least {smallest}x{smallest}, or take a "
            f"network with fewer stages"
        )
