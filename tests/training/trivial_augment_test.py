import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from optnet_jax.data.preprocessing import Preprocessing
from optnet_jax.training import trivial_augment as lib

HEIGHT, WIDTH = 36, 28
RNG = np.random.default_rng(0)
LEVELS = (0, 7, 20, 30)
MOVED = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
apply = jax.jit(jax.vmap(lib.apply))


def picture(channels):
    """A picture whose values are unevenly spread, none of them black or white."""
    smooth = np.cumsum(np.cumsum(RNG.normal(size=(HEIGHT, WIDTH, channels)), 0), 1)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (20 + 200 * smooth**2).astype(np.uint8)


def by_pillow(operation, level, sign, image):
    """Return what Pillow's own function of that name makes of an image."""
    s = sign * level / 30
    factor = 1 + 0.99 * s
    right, down = int(s * WIDTH), int(s * 32)
    matrices = {
        "shear_x": (1, 0.99 * s, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, 0.99 * s, 1, 0),
        "translate_x": (1, 0, right, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, down),
    }
    if operation in matrices:
        affine = Image.Transform.AFFINE
        return image.transform(image.size, affine, matrices[operation])
    return {
        "identity": lambda: image,
        "rotate": lambda: image.rotate(135 * s),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "color": lambda: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
        "posterize": lambda: ImageOps.posterize(image, 8 - round(level / 5)),
        "solarize": lambda: ImageOps.solarize(image, 255 - 255 * level / 30),
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
    }[operation]()


@pytest.mark.parametrize("channels", [1, 3])
def test_each_operation_is_that_of_pillow(channels):
    pixels = picture(channels)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    cases = [
        (index, level, sign)
        for index in range(len(lib.OPERATIONS))
        for level in LEVELS
        for sign in (1, -1)
    ]
    drawn = map(jnp.asarray, zip(*cases, strict=True))
    whole = jnp.broadcast_to(jnp.float32(pixels), (len(cases), *pixels.shape))
    for (index, level, sign), found in zip(cases, apply(*drawn, whole), strict=True):
        name = lib.OPERATIONS[index]
        wanted = np.asarray(by_pillow(name, level, sign, image)).reshape(pixels.shape)
        apart = np.abs(np.asarray(found) - wanted)
        said = f"{name}, {level}, {sign}: {apart.max()}"
        if name in MOVED:  # the same pixels, but for a tie of two neighbours
            assert (apart > 0).mean() < 0.01, said
        else:
            assert apart.max() <= 1, said


def test_draws_are_even_and_an_image_that_is_normalised_comes_back_so():
    mean, std = (0.3,), (0.2,)
    preprocessing = Preprocessing(image_shape=(1, 2, 1), mean=mean, std=std)
    count = 4000
    images = jnp.broadcast_to(jnp.asarray([51.0, 102.0]), (count, 1, 1, 2))
    images = (images.reshape(count, 1, 2, 1) / 255 - 0.3) / 0.2
    key = jax.random.key(0)
    found = lib.trivial_augment(key, images, preprocessing)
    pixels = 255 * (0.3 + 0.2 * np.asarray(found))
    np.testing.assert_allclose(pixels, np.round(pixels), atol=1e-3)
    assert pixels.min() == pytest.approx(0, abs=1e-3)
    assert pixels.max() == pytest.approx(255, abs=1e-3)
    stretched = np.isclose(pixels[:, 0, :, 0], [0, 255], atol=1e-3).all(1)
    # Autocontrast alone does that.
    assert stretched.mean() == pytest.approx(1 / 14, abs=0.02)


def test_single_precision_is_kept_where_double_is_on():
    preprocessing = Preprocessing(
        image_shape=(4, 4, 3), mean=(0.5,) * 3, std=(0.2,) * 3
    )
    with jax.enable_x64(True):
        images = jnp.zeros((28, 4, 4, 3), jnp.float32)
        found = lib.trivial_augment(jax.random.key(0), images, preprocessing)
    assert found.dtype == jnp.float32
