"""The study end to end on random images, its layers counted again with NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optnet_jax.configs import equilibrium as config_file

from optnet_jax.configuration import as_json
from optnet_jax.errors import InputError
from optnet_jax.recurrences import methods
from optnet_jax.studies import equilibrium
from optnet_jax.studies.equilibrium import STUDY, EquilibriumConfig
from optnet_jax.studies.images import Images
from optnet_jax.studies.markdown import select


@pytest.fixture
def images(monkeypatch):
    """Two methods and random images in place of digits."""
    chosen = methods.find("gd"), methods.find("agd_tuned")
    monkeypatch.setattr(methods, "METHODS", chosen)
    rng = np.random.default_rng(0)
    pixels = jnp.asarray(rng.normal(size=(3, 8, 5)), jnp.float32)
    labels = jnp.asarray(rng.integers(3, size=(3, 8)))
    made = Images((pixels, labels), (pixels[0], labels[0]), 3)
    monkeypatch.setattr(equilibrium, "load", lambda *_: made)
    return made


def small_config():
    config = config_file.get_config("quick")
    config.equilibrium.mus = (0.1,)
    config.equilibrium.depth = 64
    return config


@pytest.mark.usefixtures("images")
def test_it_leaves_its_files_and_goes_on(tmp_path, run_study):
    report, text = run_study(STUDY, small_config(), tmp_path)
    assert "* μ = 0.1: **cannot tell with n = 2" in text
    assert text.count("| GD (7)") == text.count("| AGD (12), β =") == 4
    (row,) = select(report["cells"], part="solved")
    assert max(row["residual"]) < 2e-6
    assert len(select(report["cells"], part="cut", depth=2)) == 2
    (other,) = select(report["cells"], part="varied")
    assert (other["setting"], other["value"]) == ("scale", 3.0)
    assert other["error"] != row["error"]
    assert "* 3, scale: **cannot tell with n = 2" in text


def test_layers_are_those_that_numpy_counts(images):
    config = EquilibriumConfig.of(small_config())
    cell = equilibrium.plan(config)[0]
    network = equilibrium.Network(cell, config.equilibrium.width, images.classes)
    variables = jax.jit(equilibrium._train, static_argnums=(0, 1))(
        network, config.equilibrium, jnp.int32(0), images.batches
    )
    row = equilibrium.measure(cell, config, images)

    own = jax.tree.map(lambda a: np.asarray(a, float), variables["params"])
    a = own["map"]["kernel"]
    w = 0.9 * a @ a.T / np.linalg.norm(a, 2) ** 2
    pixels, labels = map(np.asarray, images.test)
    b = pixels @ own["stem"]["kernel"] + own["stem"]["bias"]
    x, residuals, errors = np.zeros_like(b), [], []
    for _ in range(400):
        new = np.tanh(x @ w + b)
        logits = x @ own["head"]["kernel"] + own["head"]["bias"]
        residuals.append(np.linalg.norm(new - x) / max(np.linalg.norm(x), 1e-9))
        errors.append(100 * np.mean(logits.argmax(-1) != labels))
        x = new
    expected = next(k for k in range(1, 400) if max(residuals[k:]) <= 1e-3)
    assert row["methods"]["gd"]["layers_residual"][0] == expected
    assert row["error"][0] == pytest.approx(errors[-1], abs=1e-4)
    reached = next(k for k in range(1, 400) if len(set(errors[k:])) == 1)
    assert row["methods"]["gd"]["layers_error"][0] == reached


def cells_and_config(activation, **changes):
    config = small_config()
    config.equilibrium.activations = (activation,)
    config.equilibrium.update(changes)
    config = EquilibriumConfig.of(config)
    return equilibrium.plan(config), config


@pytest.mark.parametrize("place", [0, -1])  # solved, cut
def test_a_network_that_diverged_has_no_error(images, place):
    cells, config = cells_and_config("relu", learning_rate=1e20)
    with pytest.raises(InputError, match=r"diverged: lower its learning_rate=1e\+20"):
        equilibrium.measure(cells[place], config, images)


def test_a_network_whose_minimiser_is_0_has_reached_it(images):
    cells, config = cells_and_config("soft_threshold", scale=1e-6)
    row = equilibrium.measure(cells[0], config, images)
    assert np.isnan(row["residual"]).all()
    for found in row["methods"].values():
        assert found["layers_residual"] == found["layers_error"] == [1, 1]


def test_layers_that_do_not_suffice_are_no_number_and_in_no_power():
    config = small_config()
    config.equilibrium.mus = (0.1, 0.01, 0.001)
    rows = [
        {
            "part": "solved",
            "activation": "tanh",
            "mu": mu,
            "setting": "",
            "depth": 0,
            "error": [1.0, 1.0],
            "methods": {
                "gd": {what: [8, 8 * k] for what in equilibrium.LAYERS},
                "hb": dict.fromkeys(equilibrium.LAYERS, hb),
            },
        }
        for mu, k, hb in (
            (0.1, 1, [4, 16]),
            (0.01, 4, [9, None]),
            (0.001, 4, [None] * 2),
        )
    ]
    config.equilibrium.cut.depths = ()
    config = EquilibriumConfig.of(config)
    concluded = equilibrium.conclude(config, rows)
    (tested,) = select(
        concluded["compared"], what="layers_error", column="μ = 0.001", method="hb"
    )
    assert tested["differences"] == [4, 2]  # as 128 layers against 8 and 32
    report = {"config": as_json(config), "cells": rows, **concluded}
    lines = [
        [entry.strip() for entry in line.split("|")[1:-1]]
        for line in "\n".join(equilibrium.text(report)).splitlines()
    ]
    assert ["GD (7)", "8.0", "16.0", "16.0", "0.15"] in lines
    assert ["HB (11), β = 0.3", "8.0", "9.0 (1 seeds)", "> 64", "-"] in lines


@pytest.mark.parametrize(
    ("reached", "expected"),
    [([0, 0, 1, 0, 1, 1], 4), ([1, 1, 1], 1), ([0, 0, 0], None), ([0, 1], 1)],
)
def test_reached_is_for_good(reached, expected):
    assert equilibrium._for_good(np.array(reached, bool)) == expected
