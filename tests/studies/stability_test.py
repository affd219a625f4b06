"""Made-up trials and the verdict that they must give, and the study end to end."""

import dataclasses

import pytest
from optnet_jax.configs import stability as config_file

from optnet_jax.errors import InputError
from optnet_jax.recurrences import methods
from optnet_jax.studies import stability
from optnet_jax.studies.markdown import select, table
from optnet_jax.studies.stability import STUDY


def test_norms_that_overflow_are_dashes_and_gaps(tmp_path):
    entry = {
        "label": "explodes",
        "signal": [1.0, 2.0, None],
        "gradient": [None, 3.0, 1.0],
        "signal_growth": 2.0,
        "gradient_growth": None,
    }
    row = table([entry], stability.NORM_COLUMNS).splitlines()[-1]
    assert [each.strip() for each in row.split("|")[1:-1]] == [
        "explodes", "-", "2.000", "-", "-",
    ]  # fmt: skip
    stability.draw_norms([entry]).savefig(tmp_path / "norms.png")
    assert (tmp_path / "norms.png").stat().st_size > 10_000


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


def test_a_loss_that_a_guess_has_is_a_failure(tmp_path, monkeypatch, images):
    few = dataclasses.replace(images, classes=5)
    monkeypatch.setattr(stability, "load", lambda *_: few)
    fault = "failed_above=2 is no less than the loss of a guess, 1.61 for the 5 classes"
    with pytest.raises(InputError, match=fault):
        STUDY.run(small_config(), tmp_path)


def test_it_leaves_its_files_and_goes_on(tmp_path, monkeypatch, images, run_study):
    """Two methods, and random images in place of digits."""
    chosen = methods.find("gd"), methods.find("hb_net")
    monkeypatch.setattr(methods, "METHODS", chosen)
    monkeypatch.setattr(stability, "load", lambda *_: images)
    report, text = run_study(STUDY, small_config(), tmp_path)
    assert len(report["cells"]) == 7
    assert "* with batch normalisation: **" in text
    (hb_net,) = select(report["cells"], part="roots", label="HB-Net (16): 1, -1")
    assert hb_net["period"] == pytest.approx(6)
