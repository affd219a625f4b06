"""Strict numerics for every test, eight virtual CPU devices, and nothing of the user's.

Set before JAX starts its backend: nothing above this file may import JAX first.
"""

import contextlib
import functools
import gc
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import tempfile
from pathlib import Path
from types import ModuleType

# The user's settings of JAX would change what is tested; a worker has the session's.
if "PYTEST_XDIST_WORKER" not in os.environ:
    for name in [name for name in os.environ if name.startswith("JAX_")]:
        del os.environ[name]
os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the tests' time is compilation; the second flag takes 40 % off it, and the
# third one, where jaxlib still has it, another 40 %.
flags = [
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    flags.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join(flags)
# TensorFlow reads these when it is first imported.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["MPLBACKEND"] = "Agg"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

STOPPING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

jax.config.update("jax_numpy_rank_promotion", "raise")
# Traced programs are many objects that live long: looking through them seldom saves a
# twentieth of the time.
gc.set_threshold(100_000, 20, 100)


def pytest_configure(config):
    """Give all processes of the session two folders, new and their own.

    One is of prepared sets: TFDS's default lies in the user's home, where another
    version of this package may have prepared a set of the same name. The other one is
    of compiled programs: what a worker, or a program that a test starts, has compiled
    the others load.
    """
    if not hasattr(config, "workerinput"):
        config.session_dir = tempfile.mkdtemp(prefix="optnet_jax_tests_")
        os.environ["TFDS_DATA_DIR"] = f"{config.session_dir}/sets"
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{config.session_dir}/programs"
    folder = os.environ["JAX_COMPILATION_CACHE_DIR"]
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def pytest_unconfigure(config):
    """Remove them."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config.session_dir, ignore_errors=True)


@pytest.fixture
def float64():
    """Run the test in double precision: where the mathematics is what is tested."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def assert_close():
    """Compare trees leaf by leaf; without atol, rtol is of its largest entry, too."""

    def compare(found, expected, rtol=1e-11, atol=None):
        def close(a, b):
            absolute = rtol * np.abs(b).max(initial=0) if atol is None else atol
            np.testing.assert_allclose(a, b, rtol, absolute)

        assert jax.tree.structure(found) == jax.tree.structure(expected)
        jax.tree.map(close, found, expected)

    return compare


@pytest.fixture(autouse=True)
def empty_folder(tmp_path_factory, monkeypatch):
    """Run each test in a folder of its own: what lies in the clone, such as the runs
    of the README's first command, must not be read by accident."""
    monkeypatch.chdir(tmp_path_factory.mktemp("folder"))


@pytest.fixture(autouse=True)
def signals_are_heard():
    """Run each test as from a terminal: ``nohup`` and a shell's ``&`` ignore signals,
    and so would all the programs that tests start and stop."""
    ignored = [n for n in STOPPING if signal.getsignal(n) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session")
def xla_flags():
    """``XLA_FLAGS`` of a program that a test starts, with so many devices."""
    return lambda devices: os.environ["XLA_FLAGS"].replace(
        "count=8", f"count={devices}"
    )


class Store:
    """JAX's coordination service, in one process."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value):
        if key in self.values:
            raise jax.errors.JaxRuntimeError(f"ALREADY_EXISTS: {key}")
        self.values[key] = value

    def key_value_try_get(self, key):
        if key not in self.values:
            raise jax.errors.JaxRuntimeError(f"NOT_FOUND: {key}")
        return self.values[key]


@pytest.fixture
def store():
    return Store()


@functools.cache
def _small_run() -> ModuleType:
    file = Path(__file__).with_name("small_run.py")
    spec = importlib.util.spec_from_file_location("small_run", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small(monkeypatch) -> ModuleType:
    """The module ``small_run`` with its network and images installed."""
    module = _small_run()
    module.install(monkeypatch.setitem, monkeypatch.setattr)
    return module


@pytest.fixture
def as_nobody():
    """A context in which this process is a user whom permissions bind; root is not."""

    @contextlib.contextmanager
    def nobody():
        if os.geteuid():
            yield
            return
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    return nobody
