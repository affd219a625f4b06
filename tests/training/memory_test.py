import ctypes
import subprocess
import sys

import pytest

# Page faults of 20 runs of a program with 64 MB of temporaries: 16,384 pages. Before
# them ten runs in which the heap grows: some of the first find the block that another
# one freed begun by something small. Rarely a later one still does.
SCRIPT = """
import resource, sys, jax, jax.numpy as jnp
from optnet_jax.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
program = jax.jit(lambda x: jnp.sin(jnp.outer(x, x)) @ x)
x = jnp.ones(4096)

def faults(runs):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(runs):
        program(x).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(runs=10)
print(faults(runs=20))
"""


def faults(way: str) -> int:
    command = [sys.executable, "-c", SCRIPT, way]
    return int(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_a_run_needs_no_new_pages():
    plain = faults("plain")
    assert plain >= 20 * 16384
    assert faults("keep") < plain / 4


def test_without_glibc_nothing_is_done(monkeypatch):
    from optnet_jax.training import memory

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert not memory.keep_freed_memory()
