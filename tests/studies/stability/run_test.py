"""The study end to end, small: files, verdicts, and going on."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from optnet_jax.configs import stability as config_file

from optnet_jax.errors import InputError
from optnet_jax.recurrences import GradientDescent, HeavyBall
from optnet_jax.studies.stability import cells as cells_module
from optnet_jax.studies.stability import run as stability


def small_config():
    config = config_file.get_config("quick")
    config.stability.norms = {
        "depth": 4,
        "width": 4,
        "batch": 2,
        "activation": "relu",
    }
    config.trial.depths, config.trial.normalize = (4,), (True,)
    config.trial.steps, config.trial.width = 4, 4
    return config


@pytest.fixture
def small(monkeypatch):
    """Two structures and random images in place of digits."""
    chosen = {"GD": GradientDescent(), "HB-Net": HeavyBall(1, -1)}
    monkeypatch.setattr(stability, "recurrences", lambda: chosen)
    rng = np.random.default_rng(0)
    batches = jnp.asarray(rng.normal(size=(4, 8, 5))), jnp.zeros((4, 8), int)
    monkeypatch.setattr(stability, "load_batches", lambda config: batches)


@pytest.mark.usefixtures("small")
def test_it_leaves_its_files_and_goes_on(tmp_path, monkeypatch, capsys):
    report = stability.run(small_config(), tmp_path)
    assert json.loads((tmp_path / "stability.json").read_text("utf-8")) == report
    text = (tmp_path / "stability.md").read_text("utf-8")
    assert "with batch normalisation: **" in text
    hb_net = next(entry for entry in report["roots"] if entry["name"] == "HB-Net")
    assert hb_net["period"] == pytest.approx(6)
    for name in ("roots", "norms", "trial"):
        picture = (tmp_path / "plots" / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
    capsys.readouterr()

    (tmp_path / "stability.json").unlink()
    monkeypatch.setattr(stability, "train_cell", None)
    again = stability.run(small_config(), tmp_path)
    assert "going on: 3 of 3 cells are there" in capsys.readouterr().out
    assert again["cells"] == report["cells"]


def test_the_batches_are_those_of_a_training_run():
    config = config_file.get_config("quick")
    config.trial.steps = 2
    images, labels = cells_module.load_batches(config)
    assert images.shape == (2, 64, 64)
    assert labels.shape == (2, 64)
    assert not jnp.array_equal(images[0], images[1])


def test_a_depth_that_no_units_make_is_refused():
    config = config_file.get_config()
    config.trial.depths = (20, 55)
    with pytest.raises(InputError, match="has 55"):
        cells_module.plan(config)


def test_an_unknown_argument_is_named():
    with pytest.raises(InputError, match="the only argument is quick"):
        config_file.get_config("slow")
