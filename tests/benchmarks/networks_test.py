import argparse

import pytest

from optnet_jax.benchmarks import networks
from optnet_jax.errors import InputError


def options(**changed):
    parser = argparse.ArgumentParser()
    networks.SUITE.add_options(parser)
    values = {"networks": "resnet20", "batch": 2, "repeats": 1, "image_size": 8}
    return argparse.Namespace(**{**vars(parser.parse_args([])), **values, **changed})


@pytest.fixture
def _without_torch(monkeypatch):
    monkeypatch.setattr(networks, "has_torch", lambda: False)


@pytest.mark.usefixtures("_without_torch")
def test_a_step_and_inference_are_timed():
    rows = networks.SUITE.run(options(bfloat16=True))
    assert [row["case"] for row in rows] == [
        "train/resnet20-8px-b2-bf16",
        "inference/resnet20-8px-b2-bf16",
    ]
    assert all(row["ours"]["median"] > 0 for row in rows)
    assert rows[0]["temporary_bytes"] > rows[1]["temporary_bytes"] > 0
    lines = networks.SUITE.markdown(rows).splitlines()
    assert len(lines) == 4
    assert "not run" in lines[2]


@pytest.mark.usefixtures("_without_torch")
def test_a_comparison_needs_pytorch():
    with pytest.raises(InputError, match="needs PyTorch"):
        networks.SUITE.run(options(compiled=True))


@pytest.mark.parametrize("name", ["hb_net20", "resnet20"])
def test_pytorch_is_measured_beside_it(name):
    pytest.importorskip("torch")
    rows = networks.SUITE.run(options(networks=name))
    assert all(row["ratio"]["median"] > 0 for row in rows)
    assert all(row["torch_form"] == "eager" for row in rows)
