import argparse

import pytest


@pytest.fixture
def options():
    """Reads options of a suite."""

    def read(suite, *arguments):
        parser = argparse.ArgumentParser()
        suite.add_options(parser)
        return parser.parse_args(arguments)

    return read
