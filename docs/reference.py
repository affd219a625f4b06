"""A page of reference for each module, in the navigation; hooks of MkDocs."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PACKAGE = Path(__file__).parents[1] / "optnet_jax"

# Whoever searches wants a page that explains before one that lists.
PAGE = """---
title: {title}
search:
  boost: 0.3
---

# `{name}`

::: {name}
"""


def pages() -> dict[str, str]:
    """Return the page of each module, relative to the documentation, and its name."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py"), key=_packages_first):
        path = file.relative_to(PACKAGE)
        if file.stem == "__main__" or path == Path("__init__.py"):
            continue
        parts = path.with_suffix("").parts
        name = ".".join(("optnet_jax", *parts)).removesuffix(".__init__")
        page = path.with_name("index.md") if parts[-1] == "__init__" else path
        found[f"api/{page.with_suffix('.md')}"] = name
    return found


def _packages_first(file: Path) -> tuple[Any, ...]:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return (*(f"1{part}" for part in parts[:-1]), parts[-1].replace("__init__", ""))


def on_config(config: Any) -> None:
    """Put the pages below the navigation's last entry, a section for each room."""
    (section,) = config.nav[-1].values()
    rooms: dict[str, list[Any]] = {}
    for page, name in pages().items():
        room = name.split(".")[1]
        rooms.setdefault(room, []).append(page)
    section += [{room: found} for room, found in rooms.items()]


def on_files(files: Files, config: Any) -> None:
    """Add the pages."""
    for page, name in pages().items():
        title = name.rpartition(".")[2]
        content = PAGE.format(title=title, name=name)
        files.append(File.generated(config, page, content=content))
