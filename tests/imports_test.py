"""The house: who may import whom, where tests stand, what needs no TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import optnet_jax

PACKAGE = Path(optnet_jax.__file__).parent

PROGRAM = {"configuration", "data", "networks", "recurrences", "runs"}

# From the ground up; each may import those named, besides itself, errors and kinds.
ROOMS = {
    "errors": set(),
    "kinds": set(),
    "configuration": set(),
    "recurrences": set(),
    "objectives": set(),
    "ops": {"runs"},  # which library a CPU computes by
    "structures": {"ops", "recurrences", "objectives"},
    "networks": {"ops", "structures", "recurrences", "objectives"},
    "inspect": {"runs", "networks", "structures", "recurrences"},
    "runs": set(),
    "weights": {"networks", "runs"},
    "data": {"configuration", "runs"},
    "inference": PROGRAM | {"structures", "training", "weights"},
    "training": PROGRAM | {"inspect", "weights"},
    "studies": PROGRAM
    | {"inference", "inspect", "objectives", "structures", "training"},
    "benchmarks": PROGRAM | {"inspect", "ops", "structures", "studies", "training"},
    "main": {"networks", "studies", "configuration", "runs"},
}
LIGHT_ROOMS = (
    "recurrences",
    "objectives",
    "ops",
    "structures",
    "networks",
    "inspect",
    "weights",
)


# A file's tests stand in tests/<room>/<file>_test.py, but for these.
TESTED_ELSEWHERE = {
    "benchmarks/__main__.py": "benchmarks/main_test.py",
    "configuration/command_line.py": "main_test.py",
    "data/__main__.py": "packaging_test.py",
    "inference/export.py": "inference/trained_test.py",
    "inference/images.py": "inference/trained_test.py",
    "inference/predictions.py": "inference/trained_test.py",
    "inference/report.py": "inference/trained_test.py",
    "networks/__main__.py": "packaging_test.py",
    "data/dataset.py": "an abstract class: data/memory_test.py, data/stream_test.py",
    "networks/layers.py": "networks/recurrence_net_test.py, networks/vit_test.py",
    "networks/units.py": "networks/recurrence_net_test.py",
    "networks/zoo.py": "networks/contract_test.py",
    "runs/picture.py": "studies/figures_test.py",
    "structures/checks.py": "structures/propagation_test.py",
    "structures/layer.py": "structures/propagation_test.py",
    "structures/fields.py": "networks/fields_test.py, which has more of them",
    "structures/pairwise.py": "networks/dense_layer_test.py",
    "studies/dispatch.py": "main_test.py",
    "studies/kinds.py": "training/config_fuzz_test.py",
    "studies/report/__main__.py": "studies/report/page_test.py",
    "training/quiet.py": "training/checkpoint_test.py",
    "weights/torchvision_names.py": "weights/torchvision_test.py",
}


def imported_names(path):
    """Every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def test_every_file_stands_in_a_room():
    assert {room_of(path) for path in FILES} <= set(ROOMS)


def test_every_file_has_a_test_file_of_its_name_or_a_reason():
    tests = Path(__file__).parent
    names = {str(path.relative_to(PACKAGE)) for path in FILES}
    names = {name for name in names if not name.endswith("__init__.py")}
    lacking = {
        name
        for name in names
        if not (tests / name.replace(".py", "_test.py")).is_file()
    }
    assert lacking == set(TESTED_ELSEWHERE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_rooms(path):
    room = room_of(path)
    allowed = ROOMS[room] | {room, "errors", "kinds"}
    if path.name == "__main__.py":  # a program, which nothing imports
        allowed = set(ROOMS)
    for name in imported_names(path):
        parts = name.split(".")
        if parts[0] != "optnet_jax" or len(parts) == 1:
            continue
        if parts[1] in ROOMS:
            assert parts[1] in allowed, f"{room} may not import {name}"


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if room_of(p) in ("recurrences", "objectives", "errors")],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_the_mathematics_needs_jax_alone(path):
    outside = {name.split(".")[0] for name in imported_names(path)}
    assert outside - set(sys.stdlib_module_names) <= {"jax", "numpy", "optnet_jax"}


def test_light_rooms_import_where_there_is_no_tensorflow():
    """On a GPU box or in a notebook neither TensorFlow nor TensorBoard is needed."""
    program = (
        "import importlib, sys\n"
        "for name in ('tensorflow', 'tensorflow_datasets', 'tensorboard'):\n"
        "    sys.modules[name] = None\n"  # an import of it raises ImportError
        f"for room in {LIGHT_ROOMS}:\n"
        "    importlib.import_module(f'optnet_jax.{room}')\n"
        "    heavy = {'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "    assert not heavy, (room, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
