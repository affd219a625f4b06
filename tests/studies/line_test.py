"""The study end to end on random images; its norms by NumPy's own backpropagation."""

import jax
import numpy as np
import pytest
from optnet_jax.configs import line as config_file

from optnet_jax.configuration import as_json
from optnet_jax.studies import line
from optnet_jax.studies import trial as trials
from optnet_jax.studies.cells import finite
from optnet_jax.studies.line import BASELINE, STUDY, LineConfig
from optnet_jax.studies.markdown import select

WIDTH, UNITS = 4, 3


@pytest.fixture(scope="module")
def report(images, tmp_path_factory, run_study):
    """s = 1 beside ResNet, at a rate that trains and one that does not."""
    config = config_file.get_config("quick")
    config.line.s, config.line.learning_rates = (1.0,), (1e9, 0.01)
    folder = tmp_path_factory.mktemp("line")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line, "load", lambda *_: images)
        return run_study(STUDY, config, folder)[0]


def test_a_rate_that_trains_is_chosen_and_what_differs_is_told(report):
    for row in report["cells"]:
        scale = config_file.get_config("quick").line.scales.index(row["scale"])
        assert row["learning_rate"] == 0.01
        tuned = np.array(row["tuned"], float)  # None is NaN
        assert tuned[scale, 1, 0] == np.nanmin(tuned)
        assert all(0 <= error <= 100 for error in row["error"])
    (resnet,), (hb_net,) = (
        select(report["cells"], label=label) for label in (BASELINE, "(1, -1)")
    )
    assert hb_net["period"] == pytest.approx(6)
    assert resnet["loss"] != hb_net["loss"]
    text = STUDY.markdown(report)
    assert "* (1, -1): **cannot tell with n = 2" in text
    assert "| 8, (1, -1) " in text
    assert "†" not in "".join(line for line in text.splitlines() if "|" in line)


def test_a_network_that_diverged_is_wrong_and_told(images, monkeypatch):
    config = config_file.get_config("quick")
    config.line.learning_rates = (1e30,)
    config = LineConfig.of(config)
    monkeypatch.setattr(line, "load", lambda *_: images)
    measure, cells = line.measurement(config), line.plan(config)
    rows = [finite({**vars(cell), **measure(cell)}) for cell in cells]
    assert all(row["loss"] == [None, None] for row in rows)
    assert all(row["error"] == [100, 100] for row in rows)
    concluded = line.conclude(config, rows)
    report = {"config": as_json(config), "cells": rows, **concluded}
    assert "\n".join(line.text(report)).count("100.00 ± 0.00 †2 |") == len(rows)


@pytest.mark.parametrize(("label", "s", "old"), [(BASELINE, 1, 0), ("(1, -1)", 1, -1)])
def test_norms_are_those_of_backpropagation_by_hand(report, images, label, s, old):
    trial = trials.Trial(None, 2 * UNITS + 2, WIDTH, normalize=False)
    signals, gradients = [], []
    for seed in range(2):
        drawn = trials.initial_parameters(trial, jax.random.key(seed), 5, 10)
        params = jax.tree.map(lambda a: np.asarray(a, float), drawn)
        x = np.maximum(np.asarray(images.batches[0][0], float) @ params["stem"], 0)
        xs, hidden = [x, x], []  # x_{-1} and x_0
        for first, second in params["units"]["kernel"]:
            hidden.append(xs[-1] @ first)
            t = np.maximum(hidden[-1], 0) @ second
            xs.append(t + s * xs[-1] + old * xs[-2])
        logits = np.maximum(xs[-1], 0) @ params["head"]
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        p[np.arange(8), np.asarray(images.batches[1][0])] -= 1
        a, later = (p / 8) @ params["head"].T * (xs[-1] > 0), np.zeros_like(x)
        own = [a]
        for k in reversed(range(UNITS)):
            first, second = params["units"]["kernel"][k]
            through = (a @ second.T * (hidden[k] > 0)) @ first.T
            start = old * a if k == 0 else 0  # x_{-1} is x_0
            a, later = through + s * a + old * later + start, a
            own.append(a)
        signals.append(xs[1:])
        gradients.append(own[::-1])
    (row,) = select(report["cells"], label=label)
    for found, each in ((row["signal"], signals), (row["gradient"], gradients)):
        expected = np.sqrt((np.array(each) ** 2).mean((0, 2, 3)))
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_verdict_counts_the_depths():
    config = config_file.get_config("quick")
    config.line.depths = (8, 10)
    errors = np.arange(8.0)
    rows = [
        {"label": label, "depth": depth, "normalize": False, "error": list(errors + by)}
        for depth in (8, 10)
        for label, by in ((BASELINE, 0), ("(1, -1)", -1), ("(2, -1)", depth - 8))
    ]
    found = line.conclude(LineConfig.of(config), rows)
    assert found["verdicts"]["without normalisation"] == {
        "(1, -1)": f"lower error than {BASELINE} at 2, higher at 0 of 2 depths",
        "(2, -1)": f"lower error than {BASELINE} at 0, higher at 1 of 2 depths",
    }
