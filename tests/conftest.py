"""Strict numerics for every test, and eight virtual CPU devices.

Set before JAX starts its backend: nothing above this file may import JAX first.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    # Most of the tests' time is compilation; this takes 40 % off it.
    + " --xla_backend_optimization_level=0"
)
# TensorFlow reads these when it is first imported.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def float64():
    """Run the test in double precision: where the mathematics is what is tested."""
    with jax.enable_x64(True):
        yield
