"""What must be settled before JAX starts a device: bits, convolutions, memory.

XLA reads ``XLA_FLAGS`` once, when the first device is asked for; child processes
inherit it. A flag that it does not know ends the process.
"""

import ctypes
import functools
import importlib.metadata
import mmap
import os
import platform
import re
from pathlib import Path

import jax
import jaxlib
from jax._src import xla_bridge  # whether a device has started has no public name

from optnet_jax.errors import InputError, one_line, shown
from optnet_jax.runs import distributed
from optnet_jax.runs.progress import say

# Atomics add in any order, and autotuning may pick another kernel on another day.
REPEATABLE = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")
SWITCH = "--xla_cpu_experimental_onednn_custom_call"
ONEDNN = (
    f"{SWITCH}=true",
    # XLA's other library would take them first.
    "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution",
)
# Of glibc's <malloc.h>: https://man7.org/linux/man-pages/man3/mallopt.3.html
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def stay_on_the_cpu() -> None:
    """Leave accelerators to those who compute; before JAX has started a device."""
    jax.config.update("jax_platforms", "cpu")


def make_repeatable() -> None:
    """Set ``XLA_FLAGS`` so that a GPU gives the same bits in every run.

    It costs speed; a CPU is repeatable without. What a user has set stays, but these
    two flags come after it: of a flag that is given twice XLA takes the last.

    Raises:
        InputError: JAX has started a GPU without them, or ``XLA_FLAGS`` is no flags.
    """
    if xla_bridge.backends_are_initialized():
        check_repeatable()
    os.environ["XLA_FLAGS"] = " ".join([*_flags(), *_not_repeatable()])


def check_repeatable() -> None:
    """Refuse a GPU that gives other bits in every run.

    Raises:
        InputError: it is started without the flags of :func:`make_repeatable`.
    """
    if backend() == "gpu" and _not_repeatable():
        raise InputError(
            "the GPU is started without what makes it repeatable (config.deterministic)"
            ": call optnet_jax.runs.devices.make_repeatable() before the first "
            "computation"
        )


def _not_repeatable() -> list[str]:
    """Return the flags of a repeatable GPU that ``XLA_FLAGS`` does not end with."""
    last = {_name(flag): flag for flag in _flags()}
    # A switch may have no value, or 1, which are true as well.
    on = {f"{name}=true" for name, flag in last.items() if flag in (name, f"{name}=1")}
    return [flag for flag in REPEATABLE if flag not in {*last.values(), *on}]


def use_onednn() -> bool:
    """Set ``XLA_FLAGS`` so that convolutions on a CPU are oneDNN's.

    They are where jaxlib has them: from 0.11 on, on x86-64. A flag that a user has set
    stays, and where that turns oneDNN off nothing is added. Other devices, and what
    oneDNN does not take (float64, dilations), compute as before.

    Returns:
        Whether they are oneDNN's now.

    Raises:
        InputError: JAX has started its devices, or ``XLA_FLAGS`` is no flags.
    """
    given = _flags()
    if not _has_onednn():
        return False
    if not onednn_is_on() and xla_bridge.backends_are_initialized():
        raise InputError(
            "oneDNN cannot be turned on any more, since JAX has started its devices: "
            "call use_onednn() before the first computation"
        )
    names = set(map(_name, given))
    if SWITCH not in names or onednn_is_on():
        added = (flag for flag in ONEDNN if _name(flag) not in names)
        os.environ["XLA_FLAGS"] = " ".join([*given, *added])
    return onednn_is_on()


def onednn_is_on() -> bool:
    """Say whether convolutions on a CPU are oneDNN's."""
    last = [flag for flag in _flags() if _name(flag) == SWITCH][-1:]
    # As XLA reads it: without a value it is on.
    return last not in ([], [f"{SWITCH}=false"], [f"{SWITCH}=0"]) and _has_onednn()


def backend() -> str:
    """Start the devices, and return their kind.

    Raises:
        InputError: there are none of the kind that ``JAX_PLATFORMS`` asks for.
    """
    try:
        return jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # an AssertionError: none is left
        if distributed.group() and re.search("topolog|DEADLINE", str(error)):
            raise  # another process has not come as far: nobody's mistake
        wanted = os.environ.get("JAX_PLATFORMS", "")
        raise InputError(
            f"JAX can start no device with JAX_PLATFORMS={shown(wanted)} "
            f"({one_line(error, 200)}): correct it or unset it"
        ) from error


def can_keep_programs() -> bool:
    """Say whether programs can be written to a file, to be loaded by a later start.

    jaxlib 0.12 fails with ``std::bad_alloc`` for one in which oneDNN computes.
    """
    return not (backend() == "cpu" and onednn_is_on())


def say_library() -> None:
    """Say by which library a CPU computes; elsewhere nothing."""
    if backend() == "cpu":
        state = "on, so programs are not kept" if onednn_is_on() else "off"
        say(f"jax {jax.__version__}, convolutions: oneDNN {state}")


def _name(flag: str) -> str:
    return flag.partition("=")[0]


def _flags() -> list[str]:
    """Return the flags of ``XLA_FLAGS``, or of the file that it names."""
    given = os.environ.get("XLA_FLAGS", "").strip()
    if given and not given.startswith("-"):
        try:
            given = Path(given).read_text("utf-8")
        except (OSError, UnicodeError) as error:
            raise InputError(
                f"XLA_FLAGS={shown(given)} is neither flags, which begin with --, nor "
                f"a file of them ({error}): correct it or unset it"
            ) from error
    return given.split()


@functools.cache
def _has_onednn() -> bool:
    """Say whether jaxlib computes convolutions by oneDNN, and knows both flags."""
    # They are experimental, and one that is gone would end the process. Releases before
    # 0.11 know them and do nothing.
    version = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))
    library = Path(jaxlib.__file__).with_name("libjax_common.so")
    if version < (0, 11) or platform.machine() != "x86_64" or not library.exists():
        return False
    names = (_name(flag).removeprefix("--").encode() for flag in ONEDNN)
    with (
        library.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text,
    ):
        return all(text.find(name) >= 0 for name in names)


def keep_freed_memory() -> bool:
    """Keep what a step frees for the next one, instead of returning it to the system.

    XLA:CPU allocates a program's temporaries anew in every run. Blocks of that size
    glibc maps from the system and unmaps again, so that each step begins with pages
    that fault and are cleared one by one. Here glibc is told to take them from its heap
    and never to shrink it. Only the main thread's heap holds blocks of any size, hence
    programs run in the thread that calls them (``jax_cpu_enable_async_dispatch``).

    To be called after ``distributed.initialize``. Results are not changed by a bit.

    Returns:
        Whether it was done: not on an accelerator, nor without glibc.
    """
    # macOS and musl have no mallopt.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if backend() != "cpu":
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
