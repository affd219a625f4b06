import ctypes
import json
import subprocess
import sys

import pytest

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


def test_what_a_user_has_told_xla_stays(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=2 --xla_dump_to=/tmp/x")
    devices.make_repeatable()
    devices.make_repeatable()
    assert devices.os.environ["XLA_FLAGS"].split() == [
        "--xla_gpu_autotune_level=2",
        "--xla_dump_to=/tmp/x",
        "--xla_gpu_deterministic_ops=true",
        "--xla_gpu_autotune_level=0",
    ]
