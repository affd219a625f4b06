"""The study end to end, small: files, verdicts, tuning, and going on."""

import itertools
import math

import numpy as np
import pytest
from optnet_jax.configs import hypothesis as config_file

from optnet_jax.recurrences.methods import minimisers
from optnet_jax.studies.hypothesis import (
    STUDY,
    HypothesisConfig,
    draw_all,
    plan,
    train_cell,
)
from optnet_jax.studies.markdown import select

METHODS = ("GD (7)", "AGD (12), θ_k")


def small_config():
    config = config_file.get_config()
    study = config.hypothesis
    study.methods, study.depths, study.tyings = METHODS, (1, 3), ("untied",)
    study.samples = {"train": 64, "validation": 32, "test": 32}
    study.steps, study.batch_size, study.dimension = 8, 16, 4
    study.learning_rates, study.weight_scales = (0.001, 0.01, 0.03), (0.5, 1.0)
    study.tuning_seeds, study.seeds = (100, 101), tuple(range(8))
    study.untrained_depth = 4
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_study):
    """The finished study: its report, and its text."""
    return run_study(STUDY, small_config(), tmp_path_factory.mktemp("hypothesis"))


def test_it_leaves_its_files_and_says_its_verdict(finished):
    report, text = finished
    assert f"untied weights: **{report['verdicts']['untied']}**" in text
    # Eight steps of training teach nothing.
    assert report["verdicts"]["untied"].startswith("not supported")
    assert report["largest_target_residual"] < 1e-10
    assert {"device", "versions", "config", "wall_seconds"} <= set(report)
    assert len(report["cells"]) == 2 + 2 * 2


def test_the_comparison_is_with_gradient_descent_seed_by_seed(finished):
    report, _ = finished
    gd, agd = (
        next(
            cell["error"]
            for cell in report["cells"]
            if (cell["tying"], cell["label"], cell["depth"]) == ("untied", label, 3)
        )
        for label in METHODS
    )
    (compared,) = select(report["compared"], tying="untied", what="error")
    expected = [math.log10(a / g) for a, g in zip(agd, gd, strict=True)]
    np.testing.assert_allclose(compared["differences"], expected)


def test_every_comparison_of_the_page_is_corrected_for_all_of_them(finished):
    """Of three tests with eight seeds, the least p-value is 3 times 2 / 2⁸."""
    report, text = finished
    tested = report["compared"]
    assert len(tested) == 3
    least = min(tested, key=lambda each: each["p_value"])
    assert least["p_corrected"] == pytest.approx(min(1, 3 * least["p_value"]))
    assert all(each["p_corrected"] >= each["p_value"] for each in tested)
    assert "over 8 seeds" in text
    assert "the 3 comparisons" in text
    assert "(0.5, 1 times Xavier's)" in text


def test_rate_and_weights_are_chosen_without_what_is_reported():
    """Only the tuning seeds' training and validation splits may decide."""
    config = HypothesisConfig.of(small_config())
    cell = next(cell for cell in plan(config) if cell.tying == "untied")
    problems = draw_all(config)
    found = train_cell(cell, config, problems)
    scores = found["validation_error"]
    assert np.shape(scores) == (2, 3)
    assert len(set(itertools.chain(*scores))) == 6
    i, j = np.argwhere(scores == np.min(scores))[0]
    assert found["weight_scale"] == config.hypothesis.weight_scales[i]
    assert found["learning_rate"] == config.hypothesis.learning_rates[j]

    def spoilt(seed, problem):
        kept = (0, 1) if seed in config.hypothesis.tuning_seeds else ()
        splits = [
            own if i in kept else own._replace(targets=-9 * own.targets)
            for i, own in enumerate(problem.splits)
        ]
        return problem._replace(splits=tuple(splits))

    other = {seed: spoilt(seed, problem) for seed, problem in problems.items()}
    again = train_cell(cell, config, other)
    assert again["validation_error"] == scores
    assert again["error"] != found["error"]


def test_every_minimiser_is_planned_in_every_tying():
    config = config_file.get_config()
    config.hypothesis.methods = tuple(method.label for method in minimisers())
    cells = plan(HypothesisConfig.of(config))
    planned = {(cell.label, cell.tying) for cell in cells}
    tyings = "tied", "untied", "true W"
    assert planned == set(itertools.product(config.hypothesis.methods, tyings))
