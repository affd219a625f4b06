"""Windows that are cut out of a photograph before it is resized to the network's input.

Each returns (top, left, height, width) in pixels of the photograph, int32 [4], so that
a JPEG is decoded only where it is seen. They are TensorFlow functions over scalars, and
the window is a function of ``seed``, int32 [2].
"""

from typing import Any

from optnet_jax.data import quiet

tf: Any = quiet.import_tensorflow()

AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
ATTEMPTS = 10


def random_resized(height: Any, width: Any, seed: Any) -> Any:
    """Return a random window of 8 to 100 % of the area, its sides from 3:4 to 4:3.

    Out of ten draws the first that fits is taken; if none does, the central square.
    This is what the authors of DenseNet trained with (fb.resnet.torch,
    ``RandomSizedCrop``), hence what "the same training strategy" of §7.1 means.
    """
    draws = tf.random.stateless_uniform([5, ATTEMPTS], seed)
    area = tf.cast(height * width, tf.float32)
    area *= AREA[0] + (AREA[1] - AREA[0]) * draws[0]
    aspect = ASPECT[0] + (ASPECT[1] - ASPECT[0]) * draws[1]
    long, short = tf.sqrt(area * aspect), tf.sqrt(area / aspect)
    upright = draws[2] < 0.5
    rows = tf.cast(tf.round(tf.where(upright, long, short)), tf.int32)
    columns = tf.cast(tf.round(tf.where(upright, short, long)), tf.int32)
    fits = (rows >= 1) & (rows <= height) & (columns >= 1) & (columns <= width)
    first = tf.argmax(fits, output_type=tf.int32)
    rows, columns = rows[first], columns[first]
    window = tf.stack(
        [
            _place(draws[3, first], height - rows),
            _place(draws[4, first], width - columns),
            rows,
            columns,
        ]
    )
    return tf.where(tf.reduce_any(fits), window, central(height, width, 1.0))


def fixed(height: Any, width: Any, seed: Any, share: float) -> Any:
    """Return a square of ``share`` of the short side, at a random place, as §7.1 says.

    Cutting it and resizing it to 224 is resizing the short side to 224 / share and
    cutting 224x224.
    """
    side = _side(height, width, share)
    draws = tf.random.stateless_uniform([2], seed)
    top, left = _place(draws[0], height - side), _place(draws[1], width - side)
    return tf.stack([top, left, side, side])


def central(height: Any, width: Any, share: float) -> Any:
    """Return the square in the middle, of ``share`` of the short side."""
    side = _side(height, width, share)
    return tf.stack([(height - side) // 2, (width - side) // 2, side, side])


def _side(height: Any, width: Any, share: float) -> Any:
    short = tf.cast(tf.minimum(height, width), tf.float32)
    return tf.maximum(tf.cast(tf.round(share * short), tf.int32), 1)


def _place(draw: Any, room: Any) -> Any:
    """Return one of the ``room + 1`` offsets, each as likely; ``draw`` is in [0, 1)."""
    offset = tf.cast(draw * tf.cast(room + 1, tf.float32), tf.int32)
    # In float32 the product can round up to room + 1.
    return tf.minimum(offset, room)
