import json
import re

from optnet_jax import main


def test_training_draws_its_plots(small, tmp_path, capsys):
    config = small.small_config(**{"schedule.steps": 4})
    main.run(config, str(tmp_path), "train")
    drawn = {file.name for file in (tmp_path / "plots").iterdir()}
    assert drawn == {"learning_curve.png", "coefficients.png"}
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["steps"] == 4
    assert result["images_per_second"] > 0
    said = capsys.readouterr().out
    assert "drawn: " in said
    assert re.search(r"compiled the training step in \d+\.\d s", said)
    assert re.search(r"top-1 error .* %  [\d,.]+ images/s  ETA 0:00\n", said)
    main.run(config, str(tmp_path), "eval")
    assert (tmp_path / "eval_4.json").exists()
    assert "step 4, optnet_digits generated" in capsys.readouterr().out
