"""The list itself; what reads it is tested where it reads."""

import re
from pathlib import Path

import pytest

from optnet_jax.errors import InputError
from optnet_jax.recurrences import GradientDescent, heavy_ball, methods

README = Path(__file__).parents[2] / "README.md"


def test_keys_and_labels_tell_methods_apart():
    keys = {m.key for m in methods.METHODS}
    labels = {m.label for m in methods.METHODS}
    assert len(keys | labels) == 2 * len(methods.METHODS)


def test_a_method_is_found_by_its_key_and_its_label():
    for method in methods.METHODS:
        assert methods.find(method.key) is methods.find(method.label) is method
    with pytest.raises(InputError, match="'sgd': use one of gd, hb, hb_tuned"):
        methods.find("sgd")


def test_coefficients_are_tuned_to_mu_or_the_same_for_all():
    assert methods.find("gd").recurrence() == GradientDescent()
    assert methods.find("hb").recurrence(0.01) == heavy_ball(0.3)
    tuned = methods.find("hb_tuned")
    assert tuned.recurrence(0.25) == heavy_ball(0.25)
    assert tuned.rate is not None
    assert tuned.rate(0.25) == 0.5
    with pytest.raises(InputError, match="needs μ"):
        tuned.recurrence()


def test_a_relaxed_structure_is_no_minimiser():
    found = {method.key for method in methods.minimisers()}
    assert found.isdisjoint({"resnet", "hb_net", "dmr_net", "two_path"})
    assert {"gd", "hb", "agd", "agd2", "admm"} < found


@pytest.mark.parametrize("method", methods.METHODS, ids=lambda m: m.key)
def test_the_readme_has_a_row_with_its_equation_and_its_file(method):
    file = type(method.recurrence(0.01)).__module__.rpartition(".")[2]
    rows = README.read_text("utf-8").splitlines()
    (row,) = (line for line in rows if f"(optnet_jax/recurrences/{file}.py)" in line)
    structure = row.split("|")[3]
    assert f"({method.equation})" in re.findall(r"\(\d+\)", structure)
