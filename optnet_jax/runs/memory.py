"""Memory that a CPU keeps from one step to the next."""

import ctypes

import jax

# Of glibc's <malloc.h>: https://man7.org/linux/man-pages/man3/mallopt.3.html
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Keep what a step frees for the next one, instead of returning it to the system.

    XLA:CPU allocates a program's temporaries anew in every run. Blocks of that size
    glibc maps from the system and unmaps again, so that each step begins with pages
    that fault and are cleared one by one: a fifth of the time of ResNet-56. Here glibc
    is told to take them from its heap and never to shrink it. Only the main thread's
    heap holds blocks of any size, hence programs run in the thread that calls them
    instead of in one of JAX's (``jax_cpu_enable_async_dispatch``).

    To be called before JAX starts a device, and after ``distributed.initialize``.
    The process then stays as large as it ever was. Results are not changed by a bit.

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
