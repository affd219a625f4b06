"""The study end to end on random images, its layers counted again with NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optnet_jax.configs import equilibrium as config_file

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


@pytest.mark.parametrize(
    ("reached", "expected"),
    [([0, 0, 1, 0, 1, 1], 4), ([1, 1, 1], 1), ([0, 0, 0], None), ([0, 1], 1)],
)
def test_reached_is_for_good(reached, expected):
    assert equilibrium._for_good(np.array(reached, bool)) == expected
