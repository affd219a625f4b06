import numpy as np
import pytest

from optnet_jax.data import crops, quiet

tf = quiet.import_tensorflow()


def windows(crop, height, width, count, *arguments):
    function = tf.function(
        lambda seed: crop(tf.constant(height), tf.constant(width), seed, *arguments)
    )
    return np.stack([function(tf.constant([7, i])).numpy() for i in range(count)])


def assert_inside(found, height, width):
    top, left, rows, columns = found.T
    assert top.min() >= 0
    assert left.min() >= 0
    assert rows.min() >= 1
    assert columns.min() >= 1
    assert (top + rows).max() <= height
    assert (left + columns).max() <= width


def test_random_resized_has_the_areas_and_shapes_it_says():
    found = windows(crops.random_resized, 375, 500, 800)
    assert_inside(found, 375, 500)
    rows, columns = found[:, 2], found[:, 3]
    area = rows * columns / (375 * 500)
    aspect = columns / rows
    # Sides are rounded to pixels, hence the slack.
    assert area.min() >= 0.079
    assert aspect.min() >= 0.74
    assert aspect.max() <= 1.36
    # Both orientations, all sizes; the largest areas fit less often.
    assert 0.4 < (aspect > 1).mean() < 0.6
    assert np.histogram(area, 4, (0.08, 1))[0].min() > 50


def test_random_resized_of_a_strip_is_the_central_square():
    found = windows(crops.random_resized, 8, 1000, 20)
    assert {tuple(window) for window in found.tolist()} == {(0, 496, 8, 8)}


def test_fixed_is_a_square_anywhere():
    found = windows(crops.fixed, 16, 20, 400, 224 / 256)
    assert_inside(found, 16, 20)
    assert set(found[:, 2]) == set(found[:, 3]) == {14}
    assert set(found[:, 0]) == set(range(3))
    assert set(found[:, 1]) == set(range(7))


@pytest.mark.parametrize("crop", [crops.random_resized, crops.fixed])
def test_a_window_is_a_function_of_the_seed(crop):
    arguments = (0.875,) if crop is crops.fixed else ()
    first = windows(crop, 50, 60, 5, *arguments)
    np.testing.assert_array_equal(first, windows(crop, 50, 60, 5, *arguments))
    assert len({tuple(window) for window in first.tolist()}) > 1


@pytest.mark.parametrize(
    ("height", "width", "share", "expected"),
    [
        (256, 256, 224 / 256, (16, 16, 224, 224)),
        (300, 512, 224 / 256, (19, 125, 262, 262)),
        (1, 1, 0.4, (0, 0, 1, 1)),
    ],
)
def test_central(height, width, share, expected):
    window = crops.central(tf.constant(height), tf.constant(width), share)
    assert tuple(window.numpy()) == expected
