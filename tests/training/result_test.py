import json
import subprocess
from pathlib import Path

import pytest

from optnet_jax.training import loop, result

EVALUATION = {"epoch": 1, "loss": 0.5, "top1_error": 2.0, "top5_error": 0}
WHOLE = {
    "config": {"name": "a", "seed": 0},
    "network": "agd_net",
    "dataset": "optnet_digits",
    "seed": 0,
    "parameters": 7,
    "epochs": 1,
    "wall_seconds": 2.5,
    "images_per_second": None,
    "device": "1 x cpu",
    "date": "2026-11-23",
    "final": EVALUATION,
    "best": EVALUATION,
    "of a newer version": [1],
}


def test_a_whole_result_is_read_with_what_this_version_does_not_know(tmp_path):
    assert result.read(tmp_path) is None
    (tmp_path / "result.json").write_text(json.dumps(WHOLE))
    assert result.read(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"final": None}, "final=None must be a dict"),
        ({"best": [1]}, "best=.* must be a dict"),
        ({"final": {}}, "it lacks epoch, loss, top1_error, top5_error"),
        ({"best": {**EVALUATION, "loss": "0.5"}}, "loss='0.5' must be a finite"),
        ({"final": {**EVALUATION, "epoch": True}}, "epoch=True must be a finite"),
        ({"seed": 1.5}, "seed=1.5 must be a whole number"),
        ({"date": 20261123}, "date=20261123 must be text"),
        ({"versions": []}, "versions=.* must be a dict"),
        ({"images_per_second": "9"}, "images_per_second='9' must be a finite"),
        ({"config": {"model": "agd_net"}}, "model='agd_net' must be a dict"),
    ],
)
def test_a_field_of_a_wrong_kind_is_damage_and_named(tmp_path, changes, cause):
    (tmp_path / "result.json").write_text(json.dumps({**WHOLE, **changes}))
    with pytest.raises(result.DamagedResultError, match=cause):
        result.read(tmp_path)


def test_training_writes_what_is_read_and_a_damaged_one_again(small, tmp_path, caplog):
    """What a report calls damaged is not finished for training either."""
    config = small.small_config(**{"schedule.epochs": 1.0})
    found = loop.train(config, tmp_path)
    assert result.read(tmp_path) == found
    file = tmp_path / "result.json"
    file.write_text(json.dumps({**found, "device": 8}))
    again = loop.train(config, tmp_path)
    assert "device=8 must be text" in caplog.text
    assert result.read(tmp_path) == again
    assert again["checksum"] == found["checksum"]


def test_the_commit_is_that_of_the_checkout(monkeypatch, tmp_path):
    """git says it in another command; a package outside a checkout has none."""
    root = Path(result.optnet_jax.__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("this is no checkout")
    git = ["git", "-C", str(root), "rev-parse", "HEAD"]
    head = subprocess.run(git, capture_output=True, text=True, check=True).stdout
    assert head.startswith(result.commit.__wrapped__().removesuffix("-dirty"))
    monkeypatch.setattr(result.optnet_jax, "__file__", str(tmp_path / "a" / "b.py"))
    assert result.commit.__wrapped__() is None
    (tmp_path / ".git").mkdir()  # a folder of that name, and no repository
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert result.commit.__wrapped__() is None
