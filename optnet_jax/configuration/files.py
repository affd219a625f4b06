"""Config files: found by name, and executed, with errors a person can use."""

import difflib
import importlib.util
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import RequiredValueError

from optnet_jax.errors import InputError, one_line, shown
from optnet_jax.kinds import as_mapping

Config: TypeAlias = ConfigDict | Mapping[str, Any]
"""What a run is begun with, from a file, a command line or Python; then a Block."""


def find_file(path: str) -> Path:
    """Find a config file.

    Args:
        path: Relative to the current directory, where ``.py`` may be left out;
            ``configs/X.py`` and the bare name ``X`` are also looked up in the
            installed package.

    Raises:
        InputError: if there is none, naming the configs that there are.
    """
    file = Path(path).expanduser() if path.startswith("~/") else Path(path)
    if not file.suffix and not os.path.isfile(file):
        file = Path(f"{file}.py")
    if os.path.isfile(file):  # no error either for a name that no file can have
        return file
    packaged, name = packaged_configs(), file.name
    if str(file.parent) in (".", "configs") and name in packaged:
        return packaged[name]
    close = difflib.get_close_matches(name, packaged, n=1)
    if close:
        hint = f"did you mean configs/{close[0]}?"
    else:
        hint = "there are " + ", ".join(f"configs/{name}" for name in packaged)
    raise InputError(f"there is no config file {path}; {hint}")


def packaged_configs() -> dict[str, Path]:
    """Return the installed config files by name."""
    spec = importlib.util.find_spec("optnet_jax.configs")
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in Path(folder).glob("*.py")]
    return {
        file.name: file
        for file in sorted(files)
        if file.name != "recipes.py" and not file.name.startswith("__")
    }


def load(value: str) -> ConfigDict:
    """Load a config.

    Args:
        value: ``path`` or ``path:arguments``, as after ``--config=``.

    Returns:
        What the file's ``get_config`` returns; a dict becomes one.

    Raises:
        InputError: if there is no such file, if it has no ``get_config``, or if
            executing it fails, naming the line.
    """
    path, _, arguments = value.partition(":")
    file = find_file(path)
    name = f"optnet_config_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{file} is not a Python file: give --config=configs/X.py")
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its own module up there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise InputError(
                f"{file} defines no get_config(): see configs/digits_agd.py"
            )
        config = module.get_config(arguments) if arguments else module.get_config()
        if type(config) is ConfigDict:
            _empty_placeholders(config)
            return config
        fields = as_mapping(config)
        if fields is None:
            raise InputError(
                f"get_config() of {file} returned {shown(config)}: return an "
                "ml_collections.ConfigDict or a dict"
            )
        return ConfigDict(dict(fields))
    except InputError:
        raise
    except Exception as error:
        raise InputError(_where(file, error)) from error


def _empty_placeholders(config: ConfigDict) -> None:
    """Put None where a placeholder has no value: a field that is not set is named."""
    with config.unlocked():
        for name, value in [*config.items(preserve_field_references=True)]:
            if isinstance(value, ConfigDict):
                _empty_placeholders(value)
            elif isinstance(value, FieldReference):
                try:
                    value.get()
                except RequiredValueError:
                    del config[name]
                    config[name] = None


def _where(file: Path, error: Exception) -> str:
    """Say an error of a config file in one line, with the line that it comes from."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(file)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    message = error.msg if isinstance(error, SyntaxError) else one_line(error)
    place = f", line {line}" if line else ""
    return f"{file}{place}: {type(error).__name__}: {message}"
