import argparse

import numpy as np

from optnet_jax.benchmarks import jpegs, pipelines


def test_inputs_are_put_beside_training(monkeypatch):
    cases = {
        "CIFAR": ("cifar10", True, "lenet5"),
        "stream": ("imagenet2012", True, "lenet5"),
    }
    monkeypatch.setattr(pipelines, "CASES", cases)
    monkeypatch.setattr(pipelines, "SIZES", {"cifar10": 20})
    monkeypatch.setattr(jpegs, "SHAPE", (40, 48, 3))
    options = argparse.Namespace(batch=2, batches=1, jpegs=4)
    rows = pipelines.SUITE.run(options)
    assert [row["case"] for row in rows] == list(cases)
    assert all(row["pipeline"]["median"] > 0 for row in rows)
    lines = pipelines.SUITE.markdown(rows).splitlines()
    assert len(lines) == 4
    assert lines[3].startswith("| stream ")


def test_a_photograph_is_as_large_as_an_average_one():
    content = jpegs.photograph(np.random.default_rng(0))
    assert content.startswith(b"\xff\xd8")
    assert 80_000 < len(content) < 160_000
