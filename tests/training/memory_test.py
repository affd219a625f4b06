import ctypes
import subprocess
import sys

import pytest

# Page faults of one run of a program with 64 MB of temporaries: 16,384 pages.
SCRIPT = """
import resource, jax, jax.numpy as jnp
from optnet_jax.training.memory import keep_freed_memory
assert keep_freed_memory()
program = jax.jit(lambda x: jnp.sort(jnp.outer(x, x), axis=0)[0].sum())
x = jnp.ones(4096)
program(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
program(x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_a_run_needs_no_new_pages():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1000


def test_without_glibc_nothing_is_done(monkeypatch):
    from optnet_jax.training import memory

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert not memory.keep_freed_memory()
