import json

import pytest
from optnet_jax.configs import convergence as config_file

from optnet_jax.errors import InputError
from optnet_jax.studies.convergence import run as convergence_run


@pytest.fixture
def config():
    config = config_file.get_config("seed=3")
    config.convergence.activations = ("tanh",)
    config.convergence.conditions = (5.0, 20.0)
    config.convergence.dimension = 4
    config.convergence.depth = 300
    return config


def test_writes_tables_data_and_figures(config, tmp_path, capsys):
    summary = convergence_run.run(config, str(tmp_path))
    rows = summary["methods"]["tanh"]
    assert len(rows) == 7
    # GD needs about log(1e-6) / log(1 - 1/κ) layers.
    assert rows["GD (7)"]["layers"] == pytest.approx([62, 260], rel=0.25)
    assert summary["largest_duality_difference"] < 1e-12
    written = json.loads((tmp_path / "convergence.json").read_text())
    assert written["methods"]["tanh"]["GD (7)"]["exponent"] == pytest.approx(1, abs=0.1)
    text = (tmp_path / "convergence.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert "| HB (11), β = (1 - √μ)²" in text
    assert (tmp_path / "plots" / "convergence_tanh.png").stat().st_size > 10_000


def test_a_depth_that_does_not_suffice_says_so(config, tmp_path):
    config.convergence.depth = 30
    convergence_run.run(config, str(tmp_path))
    assert "> 30" in (tmp_path / "convergence.md").read_text()


def test_another_config_is_not_answered_with_this_ones_report(config, tmp_path):
    convergence_run.run(config, tmp_path)
    config.convergence.depth = 200
    with pytest.raises(InputError, match="depth"):
        convergence_run.run(config, tmp_path)


def test_workdir_that_cannot_be_written(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not writable"):
        convergence_run.run(config, str(tmp_path / "file"))
