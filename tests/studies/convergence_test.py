import math

import jax
import numpy as np
import pytest
from optnet_jax.configs import convergence as config_file

from optnet_jax.configuration import as_json
from optnet_jax.errors import InputError
from optnet_jax.recurrences import GradientDescent, NesterovSum, heavy_ball
from optnet_jax.recurrences.base import TwoIterates
from optnet_jax.recurrences.methods import METHODS, minimisers
from optnet_jax.studies import convergence
from optnet_jax.studies.convergence import STUDY, ConvergenceConfig, measure
from optnet_jax.studies.minimiser import make_problem

WITH_RATE = [method for method in METHODS if method.rate]


@pytest.fixture(scope="module")
def problems():
    return {k: make_problem("tanh", k, dimension=8) for k in (10.0, 40.0)}


@pytest.mark.parametrize("method", WITH_RATE, ids=lambda m: m.label)
def test_fitted_rates_are_the_theoretical_ones(method, problems):
    problem = problems[40.0]
    result = measure(method.recurrence(problem.mu), problem, 600)
    # Double roots add a factor k to the accelerated methods' linear rate.
    expected = method.rate(problem.mu)
    assert math.log(result.fitted_rate) == pytest.approx(math.log(expected), rel=0.15)


def test_acceleration_needs_the_square_root_of_the_layers(problems):
    layers = {}
    for problem in problems.values():
        for method in WITH_RATE:
            result = measure(method.recurrence(problem.mu), problem, 800)
            layers.setdefault(method.label, []).append(result.layers_needed(1e-6))
    exponents = {
        label: convergence.fit_exponent(list(problems), needed)
        for label, needed in layers.items()
    }
    gd, *accelerated = (exponents[method.label] for method in WITH_RATE)
    assert gd == pytest.approx(1, abs=0.1)
    assert accelerated == pytest.approx([0.5] * len(accelerated), abs=0.12)


def test_distance_and_gap_fall_to_rounding(problems):
    problem = problems[10.0]
    result = measure(GradientDescent(), problem, 400)
    assert result.distance[0] == result.gap[0] == 1
    assert result.distance[-1] < 1e-12
    assert result.gap[-1] < 1e-10
    assert np.all(np.diff(result.gap[:50]) <= 0)


def test_measures_in_double_precision_whatever_jax_computes_in():
    problem = make_problem("sigmoid", 10.0)  # its z* is not 0, as tanh's is
    found = measure(heavy_ball(0.3), problem, 200)
    with jax.enable_x64(True):
        expected = measure(heavy_ball(0.3), problem, 200)
    np.testing.assert_array_equal(found.distance, expected.distance)
    np.testing.assert_array_equal(found.gap, expected.gap)
    assert found.distance[-1] < 1e-11


def test_layers_needed_counts_from_the_last_time_above():
    result = convergence.Convergence(np.array([1.0, 0.1, 0.5, 0.1, 0.01]), np.ones(5))
    assert result.layers_needed(0.2) == 3
    assert result.layers_needed(2.0) == 0
    assert result.layers_needed(1e-3) is None


def test_an_exponent_needs_two_numbers():
    assert convergence.fit_exponent([10, 100], [20, 200]) == pytest.approx(1)
    assert math.isnan(convergence.fit_exponent([10, 100], [20, None]))


def test_a_method_that_does_not_hash_is_measured(problems):
    class Own(GradientDescent):
        __hash__ = None  # pyright: ignore

    problem = next(iter(problems.values()))
    found, expected = (measure(m, problem, 20) for m in (Own(), GradientDescent()))
    np.testing.assert_array_equal(found.distance, expected.distance)


def test_a_method_that_has_changed_since_is_measured_as_it_is(problems):
    class Own(TwoIterates):
        def __init__(self, beta):
            self.beta = beta

        def coefficients(self, depth):
            return {"beta": np.full(depth, self.beta)}

        def step(self, transform, state, c):
            x, x_previous = state
            return transform(x) + c["beta"] * (x - x_previous), x

    method, problem = Own(0.3), problems[10.0]
    measure(method, problem, 20)
    method.beta = 0.7
    found, expected = (measure(m, problem, 20) for m in (method, Own(0.7)))
    np.testing.assert_array_equal(found.distance, expected.distance)


def test_the_tied_network_is_the_method(problems):
    for problem in problems.values():
        assert convergence.duality_check(problem, NesterovSum(), 30) < 1e-12


@pytest.fixture
def config():
    config = config_file.get_config("seed=3")
    config.convergence.activations = ("tanh",)
    config.convergence.conditions = (5.0, 20.0)
    config.convergence.dimension = 4
    config.convergence.depth = 300
    return config


def test_writes_tables_data_and_figures(config, tmp_path, run_study):
    report, text = run_study(STUDY, config, tmp_path)
    rows = {row["label"]: row for row in report["methods"]}
    assert set(rows) == {method.label for method in minimisers()}
    # GD needs about log(1e-6) / log(1 - 1/κ) layers.
    layers = np.array(rows["GD (7)"]["layers"])
    assert layers[-1] == pytest.approx([62, 260], rel=0.25)
    assert (np.diff(layers, axis=0) > 0).all()
    # Once the slowest direction is left, a thousandth takes half of a millionth.
    assert layers[3] - layers[2] == pytest.approx([31, 130], rel=0.25)
    assert report["largest_duality_difference"] < 1e-12
    assert rows["GD (7)"]["exponents"][-1] == pytest.approx(1, abs=0.1)
    assert f"{1 - rows['GD (7)']['fitted_rate'][-1]:.2g}" in text
    assert "| HB (11), β = (1 - √μ)²" in text
    assert "> 300" in text  # where the depth does not suffice


def test_rates_are_those_of_the_largest_condition(config):
    config.convergence.conditions = (20.0, 5.0)
    config = ConvergenceConfig.of(config)
    measure = convergence.measurement(config)
    rows = [{**vars(cell), **measure(cell)} for cell in convergence.plan(config)]
    concluded = convergence.conclude(config, rows)
    report = {"config": as_json(config), "cells": rows, **concluded}
    (gd,) = (x for x in "\n".join(STUDY.text(report)).splitlines() if "GD (7)" in x)
    in_theory = float(gd.split("|")[-2])
    assert in_theory == pytest.approx(1 / 20, rel=0.1)


def test_a_start_within_rounding_of_the_minimiser_is_refused(config):
    config.convergence.radius = 1e-9
    with pytest.raises(InputError, match="as small as the rounding of float64"):
        ConvergenceConfig.of(config)
