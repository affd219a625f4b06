"""TrivialAugment: each image is changed by one operation, of a strength drawn too.

Source: Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data
Augmentation" (2021), the wide space of their §4. The operations are Pillow's, on pixels
0 to 255: outside of an image that is moved is black.
"""

import jax
import jax.numpy as jnp

from optnet_jax.data.preprocessing import Preprocessing

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
MOVES = OPERATIONS.index("brightness")
"""Those before it move pixels ..."""
BLENDS = OPERATIONS.index("posterize")
"""... and from there to here an image is blended with a plainer one."""
LEVELS = 31
"""Strengths that are drawn: 0 to 30."""
LUMA = (19595, 38470, 7471)
"""What red, green and blue have of grey, in 2^16ths."""


def trivial_augment(
    key: jax.Array, images: jax.Array, preprocessing: Preprocessing
) -> jax.Array:
    """Change each image by an operation, a strength and a sign drawn for it.

    Args:
        key: PRNG key.
        images: [B, H, W, C], normalised.
        preprocessing: How they were normalised.

    Returns:
        [B, H, W, C], normalised.
    """
    keys = jax.random.split(key, 3)
    operations = jax.random.randint(keys[0], (len(images),), 0, len(OPERATIONS))
    levels = jax.random.randint(keys[1], (len(images),), 0, LEVELS)
    signs = jax.random.rademacher(keys[2], (len(images),), jnp.float32)
    pixels = (images - preprocessing.shift) / preprocessing.scale
    pixels = jnp.round(pixels).clip(0, 255)
    changed = jax.vmap(apply)(operations, levels, signs, pixels)
    return preprocessing.normalise(changed).astype(images.dtype)


def apply(
    operation: jax.Array, level: jax.Array, sign: jax.Array, pixels: jax.Array
) -> jax.Array:
    """Change an image.

    Args:
        operation: Index of :data:`OPERATIONS`.
        level: 0 to 30.
        sign: Of the strength, 1 or -1, where it may have either.
        pixels: [H, W, C], whole numbers 0 to 255. Of another number of channels than 3
            each is a grey image.

    Returns:
        Likewise.
    """
    sign, level = (x.astype(pixels.dtype) for x in (sign, level))
    strength = sign * level / (LEVELS - 1)
    step = 2.0 ** jnp.round(level / 5)  # 8 to 2 bits are kept
    inverted = pixels >= 255 * (1 - level / (LEVELS - 1))
    cases = (
        _moved(_matrix(operation, strength, pixels.shape), pixels),
        _blended(operation - MOVES, 1 + 0.99 * strength, pixels),
        jnp.floor(pixels / step) * step,
        jnp.where(inverted, 255 - pixels, pixels),
        _autocontrast(pixels),
        jax.vmap(_equalized, -1, -1)(pixels),
    )
    kind = (operation >= MOVES) + jnp.maximum(operation - BLENDS + 1, 0)
    return jax.lax.select_n(jnp.broadcast_to(kind, pixels.shape), *cases)


def _matrix(
    operation: jax.Array, strength: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    """Return (a, b, c, d, e, f): pixel (x, y) is that of (a x + b y + c, d x + ...)."""
    height, width, _ = shape
    one, zero = jnp.ones(()), jnp.zeros(())
    shear = 0.99 * strength
    # 32 pixels, the side of CIFAR's images, which leave nothing of a smaller one.
    right, down = (jnp.trunc(strength * min(32, n)) for n in (width, height))
    angle = jnp.deg2rad(135 * strength)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = width / 2, height / 2
    rows = (
        (one, zero, zero, zero, one, zero),
        (one, shear, zero, zero, one, zero),
        (one, zero, zero, shear, one, zero),
        (one, zero, right, zero, one, zero),
        (one, zero, zero, zero, one, down),
        (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y),
    )
    return jnp.stack([jnp.stack(row) for row in rows])[jnp.minimum(operation, 5)]


def _moved(matrix: jax.Array, pixels: jax.Array) -> jax.Array:
    height, width, _ = pixels.shape
    a, b, c, d, e, f = matrix
    x, y = jnp.arange(width)[None] + 0.5, jnp.arange(height)[:, None] + 0.5
    column = jnp.floor(a * x + b * y + c).astype(jnp.int32)
    row = jnp.floor(d * x + e * y + f).astype(jnp.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    found = pixels[row.clip(0, height - 1), column.clip(0, width - 1)]
    return jnp.where(inside[..., None], found, 0)


def _blended(which: jax.Array, share: jax.Array, pixels: jax.Array) -> jax.Array:
    """Return plain + share (pixels - plain), plain black, grey, evenly so, blurred."""
    grey = pixels
    if pixels.shape[-1] == 3:
        mixed = jnp.tensordot(pixels.astype(jnp.int32), jnp.asarray(LUMA), 1)
        grey = ((mixed + 2**15) // 2**16).astype(pixels.dtype)[..., None]
    cases = (
        jnp.zeros_like(pixels),
        jnp.broadcast_to(grey, pixels.shape),
        jnp.broadcast_to(
            jnp.floor(grey.mean((0, 1), keepdims=True) + 0.5), pixels.shape
        ),
        _blurred(pixels),
    )
    which = jnp.broadcast_to(which.clip(0, 3), pixels.shape)
    plain = jax.lax.select_n(which, *cases)
    return jnp.floor((plain + share * (pixels - plain)).clip(0, 255))


def _blurred(pixels: jax.Array) -> jax.Array:
    """Return the mean of 3x3 pixels, the middle five times; the border stays."""
    height, width, _ = pixels.shape
    if min(height, width) < 3:
        return pixels
    total = 4 * pixels[1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            total += pixels[row : row + height - 2, column : column + width - 2]
    return pixels.at[1:-1, 1:-1].set(jnp.floor(total / 13 + 0.5))


def _autocontrast(pixels: jax.Array) -> jax.Array:
    """Stretch each channel to 0..255."""
    least, most = (of((0, 1), keepdims=True) for of in (pixels.min, pixels.max))
    stretched = jnp.floor((pixels - least) * 255 / jnp.maximum(most - least, 1))
    return jnp.where(most > least, stretched, pixels)


def _equalized(pixels: jax.Array) -> jax.Array:
    """Spread the values of a channel [H, W] evenly over 0..255."""
    values = pixels.astype(jnp.int32)
    counts = jnp.bincount(values.ravel(), length=256)
    step = (values.size - counts[values.max()]) // 255
    below = jnp.cumsum(counts) - counts
    table = ((step // 2 + below) // jnp.maximum(step, 1)).clip(0, 255)
    return jnp.where(step > 0, table[values].astype(pixels.dtype), pixels)
