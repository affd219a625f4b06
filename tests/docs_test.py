"""The documentation builds without a warning and asks nobody for anything."""

import ast
import html.parser
import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest

from optnet_jax import configuration
from optnet_jax.networks import NETWORKS, field_kinds

ROOT = Path(__file__).parents[1]
SOURCES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "launch" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; a dead link or a name that is missing fails the build."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={folder}"],
        cwd=ROOT,
        # The theme's announcement of its successor.
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Addresses(html.parser.HTMLParser):
    """What a page links to, and what it loads by itself."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(values["href"])
        elif values.get("src"):
            self.loaded.append(values["src"])


def pages(site):
    found = sorted(site.rglob("*.html"))
    return {page: Addresses(page.read_text("utf-8")) for page in found}


def test_a_page_loads_nothing_from_elsewhere(site):
    for page, addresses in pages(site).items():
        for url in addresses.loaded:
            parts = urllib.parse.urlsplit(url)
            assert not parts.netloc, f"{page} loads {url}"
            if parts.scheme != "data" and page.name != "404.html":
                assert (page.parent / parts.path).exists(), f"{page} loads {url}"
    for sheet in site.rglob("*.css"):
        outside = re.findall(r"url\(\s*['\"]?https?:[^)]*", sheet.read_text("utf-8"))
        assert not outside, f"{sheet} loads {outside}"


def test_links_lead_somewhere(site):
    found = pages(site)
    for page, addresses in found.items():
        for url in addresses.links:
            parts = urllib.parse.urlsplit(url)
            if parts.scheme or parts.netloc or page.name == "404.html":
                continue
            target = (page.parent / parts.path).resolve() if parts.path else page
            assert target.exists(), f"{page.relative_to(site)} links to {url}"
            if parts.fragment and target in found:
                anchor = urllib.parse.unquote(parts.fragment)
                assert anchor in found[target].anchors | {"__codelineno"}, (
                    f"{page.relative_to(site)} links to {url}"
                )


def test_the_reference_has_a_page_for_each_module_with_what_is_public(site):
    package = ROOT / "optnet_jax"
    for file in package.rglob("*.py"):
        module = file.relative_to(package).with_suffix("")
        if module.name == "__main__" or module.parts == ("__init__",):
            continue
        page = module.with_name(module.name.replace("__init__", "index"))
        text = (site / "api" / f"{page}.html").read_text("utf-8")
        anchors = Addresses(text).anchors
        for node in ast.parse(file.read_text("utf-8")).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            name = ".".join(["optnet_jax", *module.parts, node.name])
            public = not node.name.startswith("_")
            assert (name.replace(".__init__", "") in anchors) == public, name


def test_a_search_finds_what_explains_before_what_lists(site):
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    boosts = {doc["location"]: doc.get("boost", 1) for doc in index["docs"]}
    listed = {
        boosts[at] for at in boosts if at.startswith("api/") and "index" not in at
    }
    assert max(listed) < boosts["howto/resume.html"]


def test_a_formula_is_not_taken_for_emphasis(site):
    for page in site.rglob("*.html"):
        for text in re.findall(r"(?s)<em>(.*?)</em>", page.read_text("utf-8")):
            assert not set(text) & set("‖={}"), f"{page.relative_to(site)}: {text}"


def test_no_markup_of_docstrings_is_left(site):
    for page in (site / "api").rglob("*.html"):
        text = page.read_text("utf-8")
        for markup in (":class:`", ":func:`", ":mod:`", "=====  ====="):
            outside = re.sub(r"(?s)<pre.*?</pre>", "", text)
            assert markup not in outside, f"{page.name} has {markup}"
        assert "\\_" not in text, page.name


@pytest.fixture(scope="module")
def to_markdown():
    return runpy.run_path(f"{ROOT}/docs/griffe_markdown.py")["to_markdown"]


def test_docstrings_become_markdown(to_markdown):
    text = "Runs :class:`~a.b.ADMM` over [K][n].\n>>> 1 + 1\n2\n\n=== ==\na   b\n=== =="
    assert to_markdown(f"{text}\n1   2\n=== ==\nEnd.") == (
        "Runs `ADMM` over [K]\\[n].\n\n```pycon\n>>> 1 + 1\n2\n```\n\n"
        "\n```text\n=== ==\na   b\n=== ==\n1   2\n=== ==\n```\nEnd."
    )


def test_formulas_of_docstrings_are_not_emphasis(to_markdown):
    assert to_markdown("(x'_{k+1}, x_{k+1}), batch_norm_group") == (
        r"(x'\_{k+1}, x\_{k+1}), batch_norm_group"
    )
    assert to_markdown("‖x_k - x*‖ and x*, but `a_*b`") == (
        r"‖x_k - x\*‖ and x\*, but `a_*b`"
    )
    assert to_markdown("As:\n\n    x_{k+1} = *\n    v_{k}") == (
        "As:\n\n    x_{k+1} = *\n    v_{k}"
    )
    assert to_markdown("the *last* epoch") == "the *last* epoch"


@pytest.fixture(scope="module")
def config_fields():
    """Every field that some config has, or a network takes in the model block."""
    configs = [
        configuration.load(f"configs/{n}") for n in configuration.packaged_configs()
    ]
    models = {f"model.{field}" for name in NETWORKS for field in field_kinds(name)}
    return {
        field for config in configs for field in configuration.fields(config)
    } | models


@pytest.fixture(scope="module")
def words():
    """Every name in the source, and of a file."""
    folders = ("optnet_jax", "configs", "tests", "launch", "notebooks")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*")]
    code = [file.read_text("utf-8") for file in files if file.suffix in (".py", ".sh")]
    return set(re.findall(r"\w+", "\n".join([*code, *(file.name for file in files)])))


@pytest.mark.parametrize("page", SOURCES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page, config_fields, words):
    text = page.read_text("utf-8")
    flags = re.findall(r"--config\.(\w+(?:\.\w+)*)", text)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"(?s)```.*?```", "", text))
    blocks = {field.partition(".")[0] for field in config_fields if "." in field}
    dotted = [s for s in spans if re.fullmatch(rf"(?:{'|'.join(blocks)})\.[a-z_]+", s)]
    unknown = {*flags, *dotted} - config_fields
    assert not unknown, f"no config has {unknown}"

    for module in re.findall(r"python -m (optnet_jax[\w.]*)", text):
        assert importlib.util.find_spec(module), module
    files = r"\b(?:configs|docs|launch|notebooks|optnet_jax|tests)/[\w/]+\.\w+"
    for file in re.findall(files, text):
        assert (ROOT / file).exists(), file
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        # Pages of modules are made when the site is built, which checks such links.
        made = "api/" in link or page.parent.name == "api"
        assert made or "://" in link or (page.parent / link).exists(), link

    own = "\n".join(re.findall(r"(?s)```python.*?```", text))
    names = re.findall(r"\b[A-Za-z]\w*_\w+|\b[A-Z][a-z]+[A-Z]\w+", "\n".join(spans))
    unknown = set(names) - words - set(re.findall(r"\w+", own))
    assert not unknown, f"nothing in the source is called {unknown}"


def test_the_readme_names_the_pythons_that_setup_py_allows():
    readme = (ROOT / "README.md").read_text("utf-8")
    setup = (ROOT / "setup.py").read_text("utf-8")
    ci = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    versions = re.findall(r"Python :: (3\.\d+)", setup)
    *first, newest = versions
    after = f"3.{int(newest.split('.')[1]) + 1}"
    assert f"Python {', '.join(first)} or {newest} (not {after}" in readme
    assert f'python_requires=">={versions[0]},<{after}"' in setup
    assert f'python-version: ["{versions[0]}", "{newest}"]' in ci
