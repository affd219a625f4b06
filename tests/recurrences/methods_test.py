"""The list itself; what reads it is tested where it reads."""

import contextlib
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from optnet_jax.configs import convergence as convergence_config
from optnet_jax.configs import hypothesis as hypothesis_config
from optnet_jax.configs import stability as stability_config
from optnet_jax.configs import table2 as table2_config

from optnet_jax.errors import InputError
from optnet_jax.recurrences import GradientDescent, heavy_ball, methods
from optnet_jax.studies import convergence, hypothesis, stability, table2
from optnet_jax.studies.roots import characteristic_roots

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
    with pytest.raises(InputError, match=r"needs μ, .*find\('hb_tuned'\).rec"):
        tuned.recurrence()


def test_a_relaxed_structure_is_no_minimiser():
    found = {method.key for method in methods.minimisers()}
    assert found.isdisjoint({"resnet", "hb_net", "dmr_net", "two_path"})
    assert {"gd", "hb", "agd", "agd2", "admm"} < found


def test_those_of_adaptive_coefficients_alone_have_no_roots():
    for method in methods.METHODS:
        refused = contextlib.nullcontext()
        if method.adaptive:
            refused = pytest.raises(InputError, match="not linear in its state")
        with refused:
            characteristic_roots(method.recurrence(0.01))


@pytest.mark.parametrize("method", methods.METHODS, ids=lambda m: m.key)
def test_the_readme_has_a_row_with_its_equation_and_its_file(method):
    file = type(method.recurrence(0.01)).__module__.rpartition(".")[2]
    rows = README.read_text("utf-8").splitlines()
    (row,) = (line for line in rows if f"(optnet_jax/recurrences/{file}.py)" in line)
    structure = row.split("|")[3]
    if method.equation:
        assert f"({method.equation})" in re.findall(r"\(\d+\)", structure)


@dataclasses.dataclass(frozen=True)
class Damped:
    """x ← (1 - w) x + w T(x): a method of which no other file knows."""

    weight: float = 0.9

    def coefficients(self, depth):
        return {"weight": np.full(depth, self.weight)}

    def init(self, x0):
        return x0

    def step(self, transform, state, c):
        return (1 - c["weight"]) * state + c["weight"] * transform(state)

    def output(self, state):
        return state


@pytest.fixture
def added(monkeypatch):
    """The list with one more method."""
    method = methods.Method(
        "damped", "Damped", "7", Damped(), rate=lambda mu: 1 - 0.9 * mu
    )
    monkeypatch.setattr(methods, "METHODS", (*methods.METHODS, method))
    return method


def test_a_method_that_is_added_is_checked_and_measured(added, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "METHODS", (methods.find("gd"), added))
    config = convergence_config.get_config()
    config.convergence.activations, config.convergence.conditions = ("tanh",), (5.0,)
    config.convergence.dimension, config.convergence.depth = 4, 200
    report = convergence.STUDY.run(config, tmp_path)
    (row,) = (row for row in report["methods"] if row["label"] == "Damped (7)")
    assert row["fitted_rate"] == pytest.approx(row["theoretical_rate"], rel=0.02)
    # Lemma 1, for each method: with all of them in convergence_test.py.
    assert report["largest_duality_difference"] < 1e-12
    assert "| Damped (7) " in (tmp_path / "convergence.md").read_text("utf-8")


def test_a_method_that_is_added_is_in_every_plan(added):
    table = table2_config.get_config()
    table.structures = (*table.structures, added.key)
    trained = hypothesis_config.get_config("quick")
    trained.hypothesis.methods = (*trained.hypothesis.methods, added.label)
    for study, config, cells in (
        (convergence.STUDY, convergence_config.get_config(), 4 * 3),
        (table2.STUDY, table, 2),
        (hypothesis.STUDY, trained, 1 + 2 * 2),
        (stability.STUDY, stability_config.get_config(), 2),
    ):
        plan = study.plan(study.config.of(config))
        own = [cell for cell in plan if cell.recurrence == added.recurrence()]
        assert len(own) == cells, study.name
