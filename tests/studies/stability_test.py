"""Made-up trials and the verdict that they must give, and the study end to end."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from optnet_jax.configs import stability as config_file

from optnet_jax.errors import InputError
from optnet_jax.recurrences import methods
from optnet_jax.studies import stability
from optnet_jax.studies.stability import STUDY, StabilityConfig
from optnet_jax.studies.study import select

SEEDS = tuple(range(6))


def cell(structure, depth, failed_rates):
    """A cell of three rates of which each seed fails at so many."""
    failed = np.arange(3)[:, None] >= 3 - np.array(failed_rates)[None, :]
    return {
        "label": structure,
        "depth": depth,
        "normalize": True,
        "failed": failed.tolist(),
    }


def trial(ours, resnets, depth=110):
    cells = [
        cell(stability.HB_NET, depth, ours),
        cell(stability.RESNET, depth, resnets),
    ]
    # Another depth, where it is the other way round: only the greatest counts.
    return [
        *cells,
        cell(stability.HB_NET, 20, resnets),
        cell(stability.RESNET, 20, ours),
    ]


@pytest.mark.parametrize(
    ("ours", "resnets", "expected"),
    [
        ([1] * 6, [2] * 6, "supported: of runs with 110 layers 6/18 of HB-Net's"),
        ([2] * 6, [1] * 6, "reversed: "),
        ([1] * 6, [1] * 6, "not supported: "),
        ([0, 0, 2, 2, 1, 1], [1, 1, 1, 1, 1, 1], "not supported: "),
    ],
)
def test_each_direction_has_its_verdict(ours, resnets, expected):
    assert stability.judge(SEEDS, trial(ours, resnets), True).startswith(expected)


def test_too_few_seeds_cannot_tell():
    cells = trial([0] * 4, [3] * 4)
    assert stability.judge(SEEDS[:4], cells, True).startswith("cannot tell with n = 4")


def test_the_largest_rate_is_that_before_the_first_failure():
    failed = [[False, False, True], [False, True, False], [True, False, False]]
    found = stability.largest_rates({"failed": failed}, (0.1, 1.0, 10.0))
    np.testing.assert_array_equal(found, [1.0, 0.1, 0.0])


def test_a_seed_that_diverged_counts_as_infinitely_bad():
    loss = [[0.1, 0.2, None], [None, None, 0.3]]
    np.testing.assert_array_equal(
        stability.median_loss({"final_loss": loss}), [0.2, np.inf]
    )


def test_norms_that_overflow_are_dashes_and_gaps(tmp_path):
    entry = {
        "label": "explodes",
        "signal": [1.0, 2.0, None],
        "gradient": [None, 3.0, 1.0],
        "signal_growth": 2.0,
        "gradient_growth": None,
    }
    row = stability.norm_table([entry]).splitlines()[-1]
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


@pytest.fixture
def small(monkeypatch):
    """Two methods and random images in place of digits."""
    chosen = methods.find("gd"), methods.find("hb_net")
    monkeypatch.setattr(methods, "METHODS", chosen)
    rng = np.random.default_rng(0)
    batches = jnp.asarray(rng.normal(size=(4, 8, 5))), jnp.zeros((4, 8), int)
    monkeypatch.setattr(stability, "load_batches", lambda config: batches)


@pytest.mark.usefixtures("small")
def test_it_leaves_its_files_and_goes_on(tmp_path, monkeypatch, capsys):
    report = STUDY.run(small_config(), tmp_path)
    assert json.loads((tmp_path / "stability.json").read_text("utf-8")) == report
    text = (tmp_path / "stability.md").read_text("utf-8")
    assert "with batch normalisation: **" in text
    (hb_net,) = select(report["cells"], part="roots", label="HB-Net (16): 1, -1")
    assert hb_net["period"] == pytest.approx(6)
    for name in ("roots", "norms", "trial"):
        picture = (tmp_path / "plots" / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
    capsys.readouterr()

    (tmp_path / "stability.json").unlink()
    monkeypatch.setattr(stability, "run_trial", lambda *_, **__: pytest.fail("again"))
    again = STUDY.run(small_config(), tmp_path)
    assert "going on: 7 of 7 cells are there" in capsys.readouterr().out
    assert again["cells"] == report["cells"]


def test_the_batches_are_those_of_a_training_run():
    config = config_file.get_config("quick")
    config.trial.steps = 2
    images, labels = stability.load_batches(StabilityConfig.of(config))
    assert images.shape == (2, 64, 64)
    assert labels.shape == (2, 64)
    assert not jnp.array_equal(images[0], images[1])


def test_a_depth_that_no_units_make_is_refused():
    config = config_file.get_config()
    config.trial.depths = (20, 55)
    with pytest.raises(InputError, match="has 55"):
        STUDY.config.of(config)


def test_an_unknown_argument_is_named():
    with pytest.raises(InputError, match="the only argument is quick"):
        config_file.get_config("slow")
