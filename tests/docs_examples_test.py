"""The Python of README.md and docs/ runs as it is printed, page by page."""

import re
from pathlib import Path

import pytest

from optnet_jax.data import SPECS
from optnet_jax.networks import NETWORKS

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?:<!-- file: (\S+) -->\n)?^```python\n(.*?)^```$", re.M | re.S)
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if BLOCK.search(page.read_text("utf-8"))
]


def named(page):
    return str(page.relative_to(ROOT))


@pytest.fixture(autouse=True)
def registries():
    """A page may register a network or a set of its own."""
    kept = [(registry, dict(registry)) for registry in (NETWORKS, SPECS)]
    yield
    for registry, entries in kept:
        registry.clear()
        registry.update(entries)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = page.read_text("utf-8")
    namespace = {"__name__": "page"}
    for match in BLOCK.finditer(text):
        file, code = match.groups()
        if file:
            (tmp_path / file).write_text(code, "utf-8")
        # Errors name the line of the page.
        code = "\n" * text.count("\n", 0, match.start(2)) + code
        exec(compile(code, named(page), "exec"), namespace)
