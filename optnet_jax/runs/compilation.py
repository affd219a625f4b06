"""JAX's compilation cache: what one start has compiled, the next one loads."""

import contextlib
import functools
import hashlib
import os
import platform
import re
import warnings
from pathlib import Path
from typing import Any

import jax
from absl import logging

from optnet_jax.errors import one_line

MOST_BYTES = 1 << 30
"""What all programs together may take; those that were written first go first."""

_FAULT = re.compile(
    r"Error (reading|writing) persistent compilation cache entry for '([^']*)': (.*)",
    re.DOTALL,
)
_hits = 0
# Its fields are made when JAX is imported.
_config: Any = jax.config


def keep_programs(wanted: bool = True) -> Path | None:
    """Keep compiled programs for later starts, if wanted, in a folder of the user's.

    It is ``optnet_jax`` in ``$XDG_CACHE_HOME`` or ``~/.cache``, and in it one for each
    kind of processor, whose instructions the programs hold, and each version of Python;
    a user's own ``JAX_COMPILATION_CACHE_DIR`` stays. A folder that cannot be used, or a
    program there that is damaged, is one line and no error.

    Returns:
        The folder; None without.
    """
    if not wanted:
        _config.update("jax_enable_compilation_cache", False)
        return None
    folder = _config.jax_compilation_cache_dir
    if folder is None:
        try:
            folder = _own_folder()
        except (OSError, RuntimeError) as error:  # a RuntimeError: there is no home
            logging.warning(
                "compiled programs are not kept for later starts: %s", one_line(error)
            )
            return None
        _config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # A run has a hundred small programs besides the step: seconds, together.
        _config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    _count_hits()
    if not isinstance(warnings.showwarning, _Faults):
        warnings.showwarning = _Faults(warnings.showwarning)
    return Path(folder)


def place() -> str | None:
    """Return where programs are kept; None if they are not."""
    kept = _config.jax_enable_compilation_cache
    return _config.jax_compilation_cache_dir if kept else None


def hits() -> int:
    """Return how many programs were loaded instead of compiled, in this process."""
    return _hits


def _own_folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The specification has relative ones ignored:
    # https://specifications.freedesktop.org/basedir-spec/latest/
    root = (base if base.is_absolute() else Path.home() / ".cache") / "optnet_jax"
    folder = root / f"compiled-{_kind()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _drop_oldest(root)
    return folder


def _kind() -> str:
    """Return a digest of the kind of processor and the version of Python.

    JAX compresses programs by what Python has, zstd from 3.14 on, and gives them the
    same names.
    """
    version, _, _ = platform.python_version().rpartition(".")
    kind = [platform.machine(), platform.processor(), version]
    with contextlib.suppress(OSError):
        described = Path("/proc/cpuinfo").read_text("utf-8", "replace")
        first = described.split("\n\n")[0].splitlines()
        names = ("model name", "flags", "CPU part", "Features")
        kind += [line for line in first if line.startswith(names)]
    return hashlib.sha256("\n".join(kind).encode()).hexdigest()[:8]


def _drop_oldest(root: Path) -> None:
    found = []
    for file in root.glob("compiled-*/*"):
        with contextlib.suppress(OSError):  # another process may be at it, too
            status = file.stat()
            found.append((status.st_mtime, status.st_size, file))
    total = 0
    for _, size, file in sorted(found, reverse=True):
        total += size
        if total > MOST_BYTES:
            with contextlib.suppress(OSError):
                file.unlink()


@functools.cache
def _count_hits() -> None:
    def note(event: str, **_: Any) -> None:
        global _hits
        _hits += event == "/jax/compilation_cache/cache_hits"

    jax.monitoring.register_event_listener(note)


class _Faults:
    """Shows warnings, those of the cache as one line each of reading and of writing.

    JAX compiles what it cannot read, but never writes over it: it would warn in every
    start. So what was damaged is removed first.
    """

    def __init__(self, show: Any):
        self._show = show
        self._said: set[str] = set()

    def __call__(self, message: Any, *rest: Any, **more: Any) -> None:
        fault = _FAULT.fullmatch(str(message))
        if fault is None:
            self._show(message, *rest, **more)
            return
        doing, name, cause = fault.groups()
        folder = Path(_config.jax_compilation_cache_dir or "")
        if doing == "reading":
            for file in folder.glob(f"{name}-*"):
                with contextlib.suppress(OSError):
                    file.unlink()
        what = {
            "reading": "cannot be read, and is compiled again",
            "writing": "cannot be kept for later starts: going on",
        }
        if doing not in self._said:
            self._said.add(doing)
            cause = one_line(RuntimeError(cause), 200)
            logging.warning(
                "program %s in %s %s (%s)", name, folder, what[doing], cause
            )
