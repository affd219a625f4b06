import json

from optnet_jax import main


def test_training_draws_its_plots(small, tmp_path, capsys):
    config = small.small_config(**{"schedule.steps": 4})
    main.run(config, str(tmp_path), "train")
    drawn = {file.name for file in (tmp_path / "plots").iterdir()}
    assert drawn == {"learning_curve.png", "coefficients.png"}
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 4
    assert "drawn: " in capsys.readouterr().out
    main.run(config, str(tmp_path), "eval")
    assert (tmp_path / "eval_4.json").exists()
    assert "step 4, optnet_digits generated" in capsys.readouterr().out
