import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from optnet_jax.data import SPECS, crops
from optnet_jax.data.preprocessing import Preprocessing
from optnet_jax.errors import InputError

IMAGENET = Preprocessing.of(SPECS["imagenet2012"])


@pytest.mark.parametrize("resize", [0, 256, 292])
def test_the_window_is_the_one_that_a_streamed_set_cuts(resize):
    found = Preprocessing((224, 224, 3), (0.5,) * 3, (0.2,) * 3, resize)
    sides = [*range(1, 40), 224, 255, 256, 333, 500, 1201, 4000]
    for height, width in zip(sides, sides[::-1], strict=True):
        cut = crops.central(tf.constant(height), tf.constant(width), found.share)
        assert found.window(height, width) == tuple(cut.numpy())


@pytest.mark.parametrize("shape", [(300, 401, 3), (17, 12, 3), (224, 224, 3)])
def test_pixels_are_those_of_the_streamed_pipeline(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    top, left, rows, columns = IMAGENET.window(*shape[:2])
    part = image[top : top + rows, left : left + columns]
    expected = tf.image.resize(part, (224, 224), antialias=True).numpy()
    found = IMAGENET.fit(image)
    assert found.dtype == np.uint8
    # TensorFlow's weights are in float32: what lies near halfway may be rounded the
    # other way, by one level.
    assert np.abs(found - expected).max() < 0.51
    assert np.mean(found != np.round(expected)) < 0.01


@pytest.mark.parametrize(("height", "width"), [(60, 40), (41, 60), (24, 24), (1, 9)])
def test_the_square_is_the_mean_of_what_it_covers(height, width):
    """Of a picture that varies slowly; by another resampling than Pillow's."""
    y, x = np.mgrid[:height, :width]
    pixels = (2 * y + x).astype(np.uint8)[..., None]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    centres = (np.arange(8) + 0.5) * short / 8 - 0.5
    rows, columns = (np.clip(centres, 0, short - 1) + start for start in (top, left))
    found = Preprocessing((8, 8, 1), (0.5,), (0.2,)).fit(pixels)[..., 0].astype(float)
    expected = 2 * rows[:, None] + columns
    np.testing.assert_allclose(found[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1)


def test_an_image_of_the_right_size_stays_and_another_keeps_its_proportions():
    digits = Preprocessing.of(SPECS["optnet_digits"])
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    assert np.array_equal(digits.fit(image), image)
    wide = Preprocessing((4, 8, 1), (0.5,), (0.2,))
    assert wide.window(100, 100) == (25, 0, 50, 100)
    assert wide.window(10, 100) == (0, 40, 10, 20)
    assert wide.fit(image).shape == (4, 8, 1)


def test_normalised_pixels_have_the_mean_and_deviation_taken_off():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3)).astype(np.float32)
    found = IMAGENET.normalise(pixels)
    expected = (pixels / 255.0 - np.array(IMAGENET.mean)) / np.array(IMAGENET.std)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_a_run_writes_of_it_is_read_again_and_checked():
    written = json.loads(json.dumps(dataclasses.asdict(IMAGENET)))
    assert Preprocessing.of(written) == IMAGENET
    older = {k: v for k, v in written.items() if k != "resize"}
    assert Preprocessing.of(older).resize == 0
    with pytest.raises(InputError, match="lacks std"):
        Preprocessing.of({"image_shape": [8, 8, 1], "mean": [0.5]})
    with pytest.raises(InputError, match=r"std\[0\]='a'|std"):
        Preprocessing.of({"image_shape": [8, 8, 1], "mean": [0.5], "std": ["a"]})
    with pytest.raises(InputError, match="mean must be one number for each of the 3"):
        Preprocessing((8, 8, 3), (0.5,), (0.2,))
