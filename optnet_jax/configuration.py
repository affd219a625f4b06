"""Config files and their overrides from the command line, with errors a person can use.

ml_collections does the parsing; this file finds the file, and looks at the overrides
before ml_collections does, whose own errors run over a page.
"""

import ast
import difflib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ml_collections import ConfigDict

from optnet_jax.errors import InputError

# An ml_collections.ConfigDict: its fields are looked up at run time, and a type checker
# that is told so takes each of them for a union of all that a field can be.
Config: TypeAlias = Any

OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)(?:=(.*))?", re.DOTALL)


def find_file(path: str) -> Path:
    """Find a config file.

    Args:
        path: Relative to the current directory; ``configs/X.py`` is also looked up in
            the installed package.

    Returns:
        The file.

    Raises:
        InputError: if there is none, naming the configs that there are.
    """
    file = Path(path)
    if file.is_file():
        return file
    packaged = packaged_configs()
    if file.parent.name in ("", "configs") and file.name in packaged:
        return packaged[file.name]
    close = difflib.get_close_matches(file.name, packaged, n=1)
    if close:
        hint = f"did you mean configs/{close[0]}?"
    else:
        hint = "there are " + ", ".join(f"configs/{name}" for name in packaged)
    raise InputError(f"there is no config file {path}; {hint}")


def packaged_configs() -> dict[str, Path]:
    """The installed config files by name."""
    spec = importlib.util.find_spec("optnet_jax.configs")
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in Path(folder).glob("*.py")]
    return {
        file.name: file
        for file in sorted(files)
        if file.name not in ("__init__.py", "recipes.py")
    }


def load(value: str) -> Config:
    """Load a config.

    Args:
        value: ``path`` or ``path:arguments``, as after ``--config=``.

    Returns:
        What the file's ``get_config`` returns.

    Raises:
        InputError: if there is no such file or it has no ``get_config``.
    """
    path, _, arguments = value.partition(":")
    file = find_file(path)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{file} is not a Python file: give --config=configs/X.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise InputError(f"{file} defines no get_config(): see configs/digits_agd.py")
    return module.get_config(arguments) if arguments else module.get_config()


def overrides(argv: Sequence[str]) -> Iterator[tuple[int, str, str | None]]:
    """Find ``--config.field=value`` on a command line.

    Yields:
        Position in ``argv``, dotted field, and the text after ``=`` (``None`` without).
    """
    for index, argument in enumerate(argv):
        match = OVERRIDE.fullmatch(argument)
        if match:
            yield index, match[1], match[2]


def check_fields(config: Config, argv: Sequence[str]) -> None:
    """Refuse overrides of fields that a config does not have.

    ``config.model`` is open: a field of the network that the config file leaves at its
    default may be set, and the network itself refuses what it does not know.

    Raises:
        InputError: naming the nearest field.
    """
    known = list(fields(config))
    for _, field, _ in overrides(argv):
        if field in known or field.startswith("model."):
            continue
        close = difflib.get_close_matches(field, known, n=1)
        if close:
            hint = f"did you mean --config.{close[0]}?"
        else:
            hint = f"there are {', '.join(sorted({k.split('.')[0] for k in known}))}"
        raise InputError(f"--config.{field}: there is no such config field; {hint}")


def fields(tree: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields, inner ones included.

    >>> list(fields({"seed": 0, "data": {"batch_size": 64}}))
    ['seed', 'data', 'data.batch_size']
    """
    for name, value in tree.items():
        yield f"{prefix}{name}"
        if isinstance(value, ConfigDict | dict):
            yield from fields(value, f"{prefix}{name}.")


def add_model_fields(config: Config, argv: Sequence[str]) -> list[str]:
    """Set the model's fields that the config file leaves at the network's defaults.

    Args:
        config: The config, changed in place.
        argv: The command line.

    Returns:
        The command line without these overrides.
    """
    known = set(fields(config))
    done = set()
    for index, field, text in overrides(argv):
        if field.startswith("model.") and field not in known:
            with config.unlocked():
                config.model[field.removeprefix("model.")] = _literal(text)
            done.add(index)
    return [argument for index, argument in enumerate(argv) if index not in done]


def _literal(text: str | None) -> Any:
    if text is None:
        return True
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return {"true": True, "false": False}.get(text, text)
