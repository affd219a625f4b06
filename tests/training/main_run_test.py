import errno
import json
import os
import re

import pytest

from optnet_jax import main
from optnet_jax.errors import InputError
from optnet_jax.runs import files


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
    assert re.search(r"(compiled|loaded) the training step in \d+\.\d s", said)
    assert re.search(r"top-1 error .* %  [\d,.]+ images/s  ETA 0:00\n", said)
    main.run(config, str(tmp_path), "eval")
    assert (tmp_path / "eval_4.json").exists()
    assert "step 4, optnet_digits generated" in capsys.readouterr().out


def test_a_disk_that_is_full_when_the_plots_are_drawn(small, tmp_path, monkeypatch):
    config = small.small_config(**{"schedule.steps": 1})
    write = files.write_durably

    def full(path, content):
        if path.parent.name == "plots":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    monkeypatch.setattr(files, "write_durably", full)
    with pytest.raises(InputError, match=r"plots/.*No space left.*make room"):
        main.run(config, str(tmp_path), "train")
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 1
    # The same command draws what is missing.
    monkeypatch.setattr(files, "write_durably", write)
    main.run(config, str(tmp_path), "train")
    drawn = {file.name for file in (tmp_path / "plots").iterdir()}
    assert "learning_curve.png" in drawn
