import json

import matplotlib.image
import pytest

from optnet_jax.runs import picture
from optnet_jax.studies import figures


@pytest.fixture
def workdir(tmp_path):
    rows = []
    for epoch in (1.0, 2.0, 3.0):
        train = {"train/loss": 1 / epoch, "train/top1_error": 50 / epoch}
        test = {"test/loss": 2 / epoch, "test/top1_error": 60 / epoch}
        rows += [{"step": epoch, "epoch": epoch, **part} for part in (train, test)]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(text)
    (tmp_path / "config.json").write_text('{"name": "a_run"}')
    return tmp_path


@pytest.fixture
def saved(monkeypatch):
    """The figures that are saved, by the names of their files."""
    found, save = {}, picture.save

    def keep(figure, file, dpi):
        found[file.name] = figure
        return save(figure, file, dpi)

    monkeypatch.setattr(picture, "save", keep)
    return found


def test_the_learning_curve_shows_what_was_measured(workdir, saved):
    (file,) = figures.draw(workdir)
    assert file == workdir / "plots" / "learning_curve.png"
    drawn = {
        (axis.get_ylabel(), line.get_label()): line.get_ydata().tolist()
        for axis in saved[file.name].axes
        for line in axis.lines
    }
    assert drawn["top-1 error (%)", "test"] == [60, 30, 20]
    assert drawn["cross-entropy", "train"] == pytest.approx([1, 1 / 2, 1 / 3])
    assert matplotlib.image.imread(file).std() > 0


def test_learned_coefficients_are_drawn_with_their_mean(workdir, saved):
    rows = [
        {
            "step": n + 1,
            "epoch": n + 1.0,
            "stage_0.alpha": [2 * n, 2 * n + 1],
            "beta1": 1,
        }
        for n in range(3)
    ]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (workdir / "coefficients.jsonl").write_text(text)
    files = figures.draw(workdir)
    assert [file.name for file in files] == ["learning_curve.png", "coefficients.png"]
    assert all(file.stat().st_size > 1000 for file in files)
    alpha, beta1 = saved["coefficients.png"].axes
    lines = [line.get_ydata().tolist() for line in alpha.lines]
    assert alpha.get_title() == "stage_0.alpha (2)"
    assert lines == [[0, 2, 4], [1, 3, 5], [0.5, 2.5, 4.5]]
    assert [line.get_ydata().tolist() for line in beta1.lines] == [[1, 1, 1]] * 2
    # A network that learns none is trained there next.
    (workdir / "coefficients.jsonl").unlink()
    assert figures.draw(workdir) == files[:1]
    assert list(files[0].parent.iterdir()) == files[:1]
