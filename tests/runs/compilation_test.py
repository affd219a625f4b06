import itertools
import os
import warnings

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from optnet_jax.runs import compilation

SETTINGS = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
)
numbers = itertools.count(2)


@pytest.fixture(autouse=True)
def as_at_a_start(tmp_path, monkeypatch):
    """JAX as a new process has it, with a cache folder of the test's."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def starts(number):
    """Compile a program as two starts of one process do; says how many are loaded."""
    found = []
    for _ in range(2):
        jax.clear_caches()
        before = compilation.hits()
        jax.jit(lambda x: x * number)(jnp.float32(1)).block_until_ready()
        found.append(compilation.hits() - before)
    return found


def programs(folder):
    return sorted(folder.iterdir())


def test_the_second_start_compiles_nothing(tmp_path, monkeypatch):
    folder = compilation.keep_programs()
    assert folder.parent == tmp_path / "optnet_jax"
    assert folder.stat().st_mode & 0o777 == 0o700
    first, second = starts(next(numbers))
    assert first == 0
    assert second == len(programs(folder)) > 0
    # Another processor, or version of Python, has another folder.
    folders = {folder}
    for name, value in (("processor", "another"), ("python_version", "3.99.1")):
        monkeypatch.setattr(compilation.platform, name, lambda value=value: value)
        jax.config.update("jax_compilation_cache_dir", None)
        folders.add(compilation.keep_programs())
    assert len(folders) == 3


def test_it_is_turned_off(tmp_path):
    assert compilation.keep_programs(False) is None
    assert starts(next(numbers)) == [0, 0]
    assert not list(tmp_path.iterdir())


def test_a_users_own_folder_stays(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    assert compilation.keep_programs() == tmp_path / "mine"
    starts(next(numbers))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def flipped(content):
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: content[:99], flipped]
)
def test_damaged_programs_are_one_line_and_mended(damage, caplog):
    number = next(numbers)
    folder = compilation.keep_programs()
    starts(number)
    for file in programs(folder):
        file.write_bytes(damage(file.read_bytes()))
    damaged, mended = starts(number)
    assert damaged == 0
    assert mended == len(programs(folder))
    (line,) = caplog.messages
    assert f"in {folder} cannot be read, and is compiled again" in line
    assert "\n" not in line


def test_a_folder_that_cannot_be_written_is_one_line(caplog):
    folder = compilation.keep_programs()
    starts(next(numbers))
    for file in programs(folder):
        file.unlink()
    folder.rmdir()  # as read-only or full, which root would not see
    assert starts(next(numbers)) == [0, 0]
    (line,) = caplog.messages
    assert f"in {folder} cannot be kept for later starts" in line


def test_a_place_that_is_none_is_one_line(tmp_path, caplog):
    (tmp_path / "optnet_jax").write_text("")
    assert compilation.keep_programs() is None
    assert starts(next(numbers)) == [0, 0]
    (line,) = caplog.messages
    assert line.startswith("compiled programs are not kept for later starts: ")


def test_what_was_written_first_goes_first(monkeypatch):
    folder = compilation.keep_programs()
    assert folder is not None
    for age in (3, 1, 2):
        file = folder / f"program-{age}"
        file.write_bytes(bytes(10))
        os.utime(file, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(compilation, "MOST_BYTES", 25)
    jax.config.update("jax_compilation_cache_dir", None)
    compilation.keep_programs()
    assert [file.name for file in programs(folder)] == ["program-1", "program-2"]


def test_other_warnings_are_shown_as_before():
    shown = []
    warnings.showwarning = lambda *args: shown.append(str(args[0]))
    compilation.keep_programs()
    warnings.warn("something else", stacklevel=1)
    assert shown == ["something else"]
