"""A small run for every test of the training room."""

import importlib.util
from pathlib import Path
from types import ModuleType

import jax
import pytest


class Store:
    """JAX's coordination service, in one process."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value):
        if key in self.values:
            raise jax.errors.JaxRuntimeError(f"ALREADY_EXISTS: {key}")
        self.values[key] = value

    def key_value_try_get(self, key):
        if key not in self.values:
            raise jax.errors.JaxRuntimeError(f"NOT_FOUND: {key}")
        return self.values[key]


@pytest.fixture
def store():
    return Store()


def _load() -> ModuleType:
    file = Path(__file__).with_name("small_run.py")
    spec = importlib.util.spec_from_file_location("small_run", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SMALL_RUN = _load()


@pytest.fixture
def small(monkeypatch) -> ModuleType:
    """The module ``small_run`` with its network and images installed."""
    SMALL_RUN.install(monkeypatch.setitem, monkeypatch.setattr)
    return SMALL_RUN
