import ctypes
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from optnet_jax.errors import InputError
from optnet_jax.runs import devices

# glibc's own account of a block of 64 MiB, whatever the machine: how many blocks it
# maps from the system while the block is held, and how large its heap stays after.
SCRIPT = """
import ctypes, json, sys
from optnet_jax.runs.devices import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()

FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"

class Account(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Account
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
before = libc.mallinfo2()
block = libc.malloc(64 << 20)
held = libc.mallinfo2()
libc.free(block)
after = libc.mallinfo2()
print(json.dumps([held.hblks - before.hblks, after.arena - before.arena]))
"""


def account(way: str) -> list[int]:
    command = [sys.executable, "-c", SCRIPT, way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33"
)
def test_a_freed_block_stays_with_the_process():
    mapped, kept = account("plain")
    assert mapped == 1
    assert kept < 4 << 20
    mapped, kept = account("keep")
    assert mapped == 0
    assert kept >= 60 << 20  # it may begin in what was free already


class Library:
    """Stands in for the C library; says what it was told."""

    def __init__(self, works=1):
        self.told = []
        self.works = works

    def mallopt(self, option, value):
        self.told.append((option, value))
        return self.works


@pytest.fixture
def settings(monkeypatch):
    """What JAX is told, which is not what this process runs with."""
    told = {}
    monkeypatch.setattr(devices.jax.config, "update", told.__setitem__)
    return told


@pytest.mark.parametrize("error", [RuntimeError("no cuda\nhere"), AssertionError()])
def test_a_device_that_there_is_not_is_one_line(monkeypatch, error):
    def none():
        raise error

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(devices.jax, "default_backend", none)
    for ask in (devices.keep_freed_memory, devices.say_library):
        with pytest.raises(
            InputError, match=r"JAX_PLATFORMS='cuda' \((no cuda here|Assert\w+)\)"
        ):
            ask()


def load(monkeypatch, library, backend="cpu"):
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(devices.jax, "default_backend", lambda: backend)


def test_glibc_and_jax_are_told(monkeypatch, settings):
    library = Library()
    load(monkeypatch, library)
    assert devices.keep_freed_memory()
    # Of <malloc.h>: M_MMAP_MAX is -4, M_TRIM_THRESHOLD is -1.
    assert library.told == [(-4, 0), (-1, -1)]
    assert settings == {"jax_cpu_enable_async_dispatch": False}
    load(monkeypatch, Library(works=0))
    assert not devices.keep_freed_memory()


def test_elsewhere_nothing_is_done(monkeypatch, settings):
    load(monkeypatch, object())
    assert not devices.keep_freed_memory()
    assert not settings
    library = Library()
    load(monkeypatch, library, backend="gpu")
    assert not devices.keep_freed_memory()
    assert not library.told


def test_what_a_user_has_told_xla_stays_but_what_is_asked_for_comes_last(monkeypatch):
    """Of a flag that is given twice XLA takes the last."""
    pretend(monkeypatch, "--xla_gpu_autotune_level=2 --xla_dump_to=/tmp/x")
    devices.make_repeatable()
    devices.make_repeatable()
    assert devices.os.environ["XLA_FLAGS"].split() == [
        "--xla_gpu_autotune_level=2",
        "--xla_dump_to=/tmp/x",
        "--xla_gpu_deterministic_ops=true",
        "--xla_gpu_autotune_level=0",
    ]
    right, level = devices.REPEATABLE
    pretend(monkeypatch, f"{right} {level} --xla_gpu_deterministic_ops=false")
    devices.make_repeatable()
    assert devices.os.environ["XLA_FLAGS"].endswith(f"=false {right}")


@pytest.mark.parametrize(
    "ask", [devices.make_repeatable, devices.check_repeatable], ids=lambda f: f.__name__
)
def test_a_gpu_that_is_started_is_made_repeatable_no_more(monkeypatch, ask):
    kind = "gpu"
    monkeypatch.setattr(devices.jax, "default_backend", lambda: kind)
    right = " ".join(devices.REPEATABLE)
    for flags in ("", f"{right} --xla_gpu_autotune_level=4"):
        pretend(monkeypatch, flags, started=True)
        with pytest.raises(InputError, match="call .*make_repeatable.* before the fir"):
            ask()
    for flags in (right, right.replace("=true", ""), right.replace("=true", "=1")):
        pretend(monkeypatch, flags, started=True)
        ask()
    kind = "cpu"
    pretend(monkeypatch, "", started=True)
    ask()


FUSIONS = "--xla_cpu_experimental_ynn_fusion_type"
BOTH = f"{devices.SWITCH}=true {FUSIONS}=-individual_convolution"


def pretend(monkeypatch, flags, onednn=True, started=False):
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(devices, "_has_onednn", lambda: onednn)
    bridge = devices.xla_bridge
    monkeypatch.setattr(bridge, "backends_are_initialized", lambda: started)


@pytest.mark.parametrize(
    ("given", "then", "on"),
    [
        ("", BOTH, True),
        ("--xla_dump_to=/tmp/x", f"--xla_dump_to=/tmp/x {BOTH}", True),
        (f"{devices.SWITCH}=false", f"{devices.SWITCH}=false", False),
        (f"{devices.SWITCH}=0 --xla_y=1", f"{devices.SWITCH}=0 --xla_y=1", False),
        (
            f"{devices.SWITCH}",
            f"{devices.SWITCH} {FUSIONS}=-individual_convolution",
            True,
        ),
        (f"{FUSIONS}=+reduce", f"{FUSIONS}=+reduce {devices.SWITCH}=true", True),
        (BOTH, BOTH, True),
    ],
)
def test_onednn_is_added_to_the_flags_of_a_user(monkeypatch, given, then, on):
    pretend(monkeypatch, given)
    assert devices.use_onednn() is on
    assert devices.os.environ["XLA_FLAGS"] == then
    assert devices.onednn_is_on() is on
    pretend(monkeypatch, given, onednn=False)
    assert not devices.use_onednn()
    assert devices.os.environ["XLA_FLAGS"] == given
    assert not devices.onednn_is_on()


@pytest.mark.parametrize("settle", [devices.use_onednn, devices.make_repeatable])
def test_flags_may_come_from_a_file(monkeypatch, tmp_path, settle):
    file = tmp_path / "flags"
    pretend(monkeypatch, str(file))
    with pytest.raises(InputError, match="neither flags, which begin with --, nor a"):
        settle()
    file.write_text("--xla_dump_to=/tmp/x\n--xla_y=1\n")
    settle()
    flags = devices.os.environ["XLA_FLAGS"].split()
    assert flags[:2] == ["--xla_dump_to=/tmp/x", "--xla_y=1"]
    assert len(flags) == 4


def test_onednn_after_the_first_computation_is_refused(monkeypatch):
    pretend(monkeypatch, "", started=True)
    with pytest.raises(InputError, match="before the first computation"):
        devices.use_onednn()
    pretend(monkeypatch, BOTH, started=True)
    assert devices.use_onednn()
    pretend(monkeypatch, "", started=True, onednn=False)
    assert not devices.use_onednn()


@pytest.mark.parametrize(
    ("version", "machine", "names", "has"),
    [
        ("0.12.0.1", "x86_64", BOTH, True),
        ("0.11.0", "x86_64", BOTH, True),
        ("0.10.2", "x86_64", BOTH, False),
        ("0.12.0", "aarch64", BOTH, False),
        ("0.13.0", "x86_64", devices.SWITCH, False),  # a flag is gone
    ],
)
def test_a_jaxlib_is_asked_for_the_flags(
    monkeypatch, tmp_path, version, machine, names, has
):
    (tmp_path / "libjax_common.so").write_bytes(names.encode())
    metadata = devices.importlib.metadata
    monkeypatch.setattr(metadata, "version", lambda package: version)
    monkeypatch.setattr(devices.jaxlib, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(devices.platform, "machine", lambda: machine)
    assert devices._has_onednn.__wrapped__() is has
    (tmp_path / "libjax_common.so").unlink()
    assert not devices._has_onednn.__wrapped__()


# Images (batch, height, width, channels), kernel (size, features), stride, padding.
CONVOLUTIONS = [
    ((2, 8, 8, 16), (3, 16), 1, 1, jnp.float32),
    ((2, 8, 8, 16), (3, 16), 1, 1, jnp.bfloat16),
    ((3, 7, 9, 5), (3, 33), 1, 0, jnp.float32),
    ((3, 7, 9, 5), (3, 7), 2, 1, jnp.float32),
    ((2, 8, 8, 32), (1, 64), 1, 0, jnp.float32),
    ((2, 7, 8, 24), (1, 12), 2, 0, jnp.bfloat16),
    ((1, 15, 16, 3), (7, 64), 2, 3, jnp.float32),
    ((4, 1, 1, 40), (3, 17), 1, 1, jnp.float32),
    ((1, 5, 6, 1), (5, 1), 1, 0, jnp.float32),
]


@pytest.mark.skipif(not devices._has_onednn(), reason="needs a jaxlib with oneDNN")
def test_onednn_computes_convolutions():
    """In a process of its own: flags are read once, and these programs not kept."""
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_ENABLE_COMPILATION_CACHE": "0",
    }
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["right"] * len(CONVOLUTIONS)


def check_convolution(images, kernel, stride, pad, dtype):
    """Compare values and gradients with XLA's own in float64."""
    size, features = kernel

    def convolve(x, w):
        return lax.conv_general_dilated(
            x,
            w,
            (stride, stride),
            [(pad, pad)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def run(x, w, dy):
        y, transpose = jax.vjp(convolve, x, w)
        return y, *transpose(dy)

    rng = np.random.default_rng(0)
    shapes = images, (size, size, images[3], features)
    x, w = (jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes)
    y = jax.eval_shape(convolve, x, w)
    operands = x, w, jnp.asarray(rng.standard_normal(y.shape), dtype)
    compiled = jax.jit(run).lower(*operands).compile()
    assert "__onednn$convolution" in compiled.as_text()
    with jax.enable_x64(True):
        exact = [jnp.asarray(np.asarray(operand, np.float64)) for operand in operands]
        reference = jax.jit(run).lower(*exact).compile()
        assert "__onednn" not in reference.as_text()
        expected = jax.device_get(reference(*exact))
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-2
    for ours, right in zip(compiled(*operands), expected, strict=True):
        assert ours.dtype == dtype
        error = np.abs(np.asarray(ours, np.float64) - right).max()
        assert error <= tolerance * np.abs(right).max()


if __name__ == "__main__":
    assert devices.use_onednn()
    assert not devices.can_keep_programs()
    for case in CONVOLUTIONS:
        check_convolution(*case)
        print("right")
