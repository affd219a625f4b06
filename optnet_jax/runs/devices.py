"""What must be settled before JAX starts a device: repeatable bits, and memory."""

import ctypes
import os

import jax

# Atomics add in any order, and autotuning may pick another kernel on another day.
REPEATABLE = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")
# Of glibc's <malloc.h>: https://man7.org/linux/man-pages/man3/mallopt.3.html
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def stay_on_the_cpu() -> None:
    """Leave accelerators to those who compute; before JAX has started a device."""
    jax.config.update("jax_platforms", "cpu")


def make_repeatable() -> None:
    """Set ``XLA_FLAGS`` so that a GPU gives the same bits in every run.

    It costs speed; a CPU is repeatable without. What a user has set stays.
    """
    given = os.environ.get("XLA_FLAGS", "")
    added = (flag for flag in REPEATABLE if flag not in given)
    os.environ["XLA_FLAGS"] = " ".join([*given.split(), *added])


def keep_freed_memory() -> bool:
    """Keep what a step frees for the next one, instead of returning it to the system.

    XLA:CPU allocates a program's temporaries anew in every run. Blocks of that size
    glibc maps from the system and unmaps again, so that each step begins with pages
    that fault and are cleared one by one: a fifth of the time of ResNet-56. Here glibc
    is told to take them from its heap and never to shrink it. Only the main thread's
    heap holds blocks of any size, hence programs run in the thread that calls them
    instead of in one of JAX's (``jax_cpu_enable_async_dispatch``).

    To be called after ``distributed.initialize``. The process then stays as large as it
    ever was. Results are not changed by a bit.

    Returns:
        Whether it was done: not on an accelerator, nor without glibc.
    """
    # macOS and musl have no mallopt.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.default_backend() != "cpu":
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
