import json

import pytest

from optnet_jax.training import result
from optnet_jax.training.workdir import Workdir

EVALUATION = {"epoch": 1, "loss": 0.5, "top1_error": 2.0, "top5_error": 0}
WHOLE = {"final": EVALUATION, "best": EVALUATION, "of a newer version": [1]}


def test_a_whole_result_is_read_with_what_this_version_does_not_know(tmp_path):
    place = Workdir(tmp_path, {})
    assert result.read(place) is None
    (tmp_path / "result.json").write_text(json.dumps(WHOLE))
    assert result.read(place) == WHOLE


@pytest.mark.parametrize(
    "changes",
    [
        {"final": None},
        {"best": [1]},
        {"final": {}},
        {"best": {**EVALUATION, "loss": "0.5"}},
        {"final": {**EVALUATION, "epoch": True}},
    ],
)
def test_one_without_its_evaluations_counts_as_missing_and_is_named(
    tmp_path, changes, caplog
):
    (tmp_path / "result.json").write_text(json.dumps({**WHOLE, **changes}))
    assert result.read(Workdir(tmp_path, {})) is None
    assert "result.json is damaged (it lacks the evaluations" in caplog.text
