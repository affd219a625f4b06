"""The Python of README.md and docs/ runs as it is printed, page by page."""

import re
import shlex
from pathlib import Path

import pytest

from optnet_jax import configuration
from optnet_jax.configuration import TrainConfig, overrides
from optnet_jax.data import SPECS
from optnet_jax.networks import NETWORKS, field_kinds

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(?:<!-- file: (\S+) -->\n)?^```python\n(.*?)^```$"
    # What it prints, where that stands below it.
    r"(?:\n\n^```text\n(.*?)^```$)?",
    re.M | re.S,
)
COMMAND = re.compile(
    r"(?:python -m optnet_jax\.main|optnet-jax) (--config=(?:\\\n|[^`\n|])*)"
)
TEXTS = {
    page: page.read_text("utf-8")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
PAGES = [page for page, text in TEXTS.items() if BLOCK.search(text)]
COMMANDS = sorted(
    {
        found
        for text in TEXTS.values()
        for found in COMMAND.findall(text)
        # Not where the page says what is in the config.
        if f"<!-- file: {found.split()[0].partition('=')[2]} -->" not in text
    }
)


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
def test_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = page.read_text("utf-8")
    namespace = {"__name__": "page"}
    for match in BLOCK.finditer(text):
        file, code, printed = match.groups()
        if file:
            (tmp_path / file).write_text(code, "utf-8")
        # Errors name the line of the page.
        code = "\n" * text.count("\n", 0, match.start(2)) + code
        capsys.readouterr()
        exec(compile(code, named(page), "exec"), namespace)
        assert printed in (None, capsys.readouterr().out)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_one_that_the_program_takes(command):
    """Its config is found, and its fields are there and of their kinds."""
    first, *rest = shlex.split(command, comments=True)
    config = configuration.load(first.partition("=")[2])
    overrides.override(config, rest, field_kinds)
    if config.get("experiment", "train") == "train":
        TrainConfig.of(config)
