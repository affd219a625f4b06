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


REFUSED = """
import socket, sys
def getaddrinfo(*args, **kwargs):
    raise socket.gaierror(-2, "Name or service not known")
socket.getaddrinfo = getaddrinfo
from optnet_jax import data
from optnet_jax.errors import InputError
for name in ("cifar100", "imagenet2012"):
    try:
        data.load({"dataset": name, "data_dir": sys.argv[1]}, seed=0)
    except InputError:
        # TensorFlow's import would take longer than the whole answer.
        assert "tensorflow" not in sys.modules
    else:
        raise AssertionError
"""


def test_a_missing_set_is_refused_without_tensorflow(tmp_path):
    found = run(REFUSED, str(tmp_path))
    assert (found.stdout, found.stderr) == ("", "")


PARSED = """
import os
from optnet_jax.data import quiet
tf = quiet.import_tensorflow()
feature = {"a": tf.io.FixedLenFeature([], tf.int64)}
try:
    tf.io.parse_single_example(b"", feature)
except tf.errors.InvalidArgumentError:
    print(os.environ.get(quiet.LEVEL))
"""


@pytest.mark.parametrize("first", ["", "import jax"])
def test_what_tensorflow_says_beside_its_errors_is_not_heard(first, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    found = run(f"{first}\n{PARSED}")
    assert found.stdout in ("1\n", "None\n")
    assert "OP_REQUIRES" not in found.stderr


LOADED = """
import sys
from optnet_jax import data
dataset = data.load({"data_dir": sys.argv[1]}, seed=0)
next(dataset.train_batches())
if imported := sys.modules.get("tensorflow"):
    assert not imported.config.get_visible_devices("GPU")
print(imported is not None)
"""


def test_preparing_is_a_line_and_reading_none_without_tensorflow(tmp_path):
    for said in (f"preparing optnet_digits in {tmp_path}\nTrue\n", "False\n"):
        found = run(LOADED, str(tmp_path))
        assert (found.stdout, found.stderr) == (said, "")
