import subprocess
import sys

import pytest


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )


def test_importing_the_room_imports_no_tensorflow():
    run("import sys, optnet_jax.data; assert 'tensorflow' not in sys.modules")


REFUSED = """
import socket, sys
def getaddrinfo(*args, **kwargs):
    raise socket.gaierror(-2, "Name or service not known")
socket.getaddrinfo = getaddrinfo
from optnet_jax import data
from optnet_jax.errors import InputError
try:
    data.load({"dataset": sys.argv[1], "data_dir": sys.argv[2]}, seed=0)
except InputError:
    # TensorFlow's import would take longer than the whole answer.
    assert "tensorflow" not in sys.modules
else:
    raise AssertionError
"""


@pytest.mark.parametrize("name", ["cifar100", "imagenet2012"])
def test_a_missing_set_is_refused_without_tensorflow(name, tmp_path):
    found = run(REFUSED, name, str(tmp_path))
    assert (found.stdout, found.stderr) == ("", "")


LOADED = """
import sys
from optnet_jax import data
dataset = data.load({"data_dir": sys.argv[1]}, seed=0)
next(dataset.train_batches())
import tensorflow as tf
assert not tf.config.get_visible_devices("GPU")
"""


def test_preparing_is_a_line_and_reading_none(tmp_path):
    for said in (f"preparing optnet_digits in {tmp_path}\n", ""):
        found = run(LOADED, str(tmp_path))
        assert (found.stdout, found.stderr) == (said, "")
