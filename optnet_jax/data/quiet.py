"""TensorFlow as a reader of files: imported late, silent, and kept off the GPU.

TensorFlow costs seconds and hundreds of megabytes, and by default claims all memory of
every GPU that JAX is about to use. It is imported in one place, here, and only by code
that prepares or streams a dataset. TFDS imports it only when it reads or writes
records.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

# TensorFlow reads both when it is first imported; without them it prints pages.
LEVEL = "TF_CPP_MIN_LOG_LEVEL"
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def import_tensorflow() -> Any:
    """Return the ``tensorflow`` module, with the GPUs hidden from it."""
    level = os.environ.get(LEVEL)
    if level in (None, "1"):  # JAX's, which sets it to hear less of XLA
        os.environ[LEVEL] = "3"
    import tensorflow as tf

    if level is None:
        del os.environ[LEVEL]
    else:
        os.environ[LEVEL] = level
    tf.config.set_visible_devices([], "GPU")
    return tf


@contextlib.contextmanager
def no_chatter() -> Iterator[None]:
    """Drop what TFDS prints and warns about in passing; errors still raise."""
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
