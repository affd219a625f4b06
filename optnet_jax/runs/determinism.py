"""Repeatable runs on a GPU."""

# Atomics add in any order, and autotuning may pick another kernel on another day.
FLAGS = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")


def flags(existing: str) -> str:
    """``XLA_FLAGS`` with which a GPU gives the same bits in every run.

    It costs speed; a CPU is repeatable without. Must be set before JAX starts a device.

    Args:
        existing: The variable's present value, which is kept.

    Returns:
        Its new value.

    >>> flags("--xla_dump_to=/tmp/x")
    '--xla_dump_to=/tmp/x --xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0'
    """
    return " ".join([*existing.split(), *(f for f in FLAGS if f not in existing)])
