import sys
import types

import pytest

from optnet_jax.benchmarks.suite import environment, number, whole_numbers
from optnet_jax.errors import InputError


def test_three_digits_are_shown():
    values = (0.5, 12.345, 99.96, 1234.5)
    assert [number(v) for v in values] == ["0.500", "12.3", "100.", "1234"]


def test_lists_of_numbers_are_read():
    assert whole_numbers("8,16") == (8, 16)
    for text in ("", "8,", "0", "-1", "8.5"):
        with pytest.raises(InputError, match="whole numbers"):
            whole_numbers(text)


def test_versions_are_of_what_was_used(monkeypatch):
    # Not those of the distributions: tensorflow-cpu brings tensorflow.
    monkeypatch.setitem(
        sys.modules, "tensorflow", types.SimpleNamespace(__version__="2.0")
    )
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    found = environment()
    assert found["tensorflow"] == "2.0"
    assert "torch" not in found
