import argparse

import pytest

from optnet_jax.runs import devices


@pytest.fixture
def options():
    """Reads options of a suite."""

    def read(suite, *arguments):
        parser = argparse.ArgumentParser()
        suite.add_options(parser)
        return parser.parse_args(arguments)

    return read


@pytest.fixture(autouse=True)
def convolutions_stay(monkeypatch):
    """The tests' process has long started its devices: a program turns oneDNN on."""
    monkeypatch.setattr(devices, "use_onednn", lambda: False)
