import types

import jax
import pytest

from optnet_jax.benchmarks import networks, timing
from optnet_jax.networks import NETWORKS

SUITE, GPU = networks.SUITES
SMALL = ("--networks=resnet20:2", "--image-size=8", "--repeats=1")


@pytest.fixture
def _without_torch(monkeypatch):
    monkeypatch.setattr(timing, "has_torch", lambda: False)


@pytest.mark.usefixtures("_without_torch")
def test_a_step_and_inference_are_timed(options):
    rows = SUITE.run(options(SUITE, *SMALL, "--bfloat16"))
    assert [row["case"] for row in rows] == [
        "train/resnet20-8px-b2-bf16",
        "inference/resnet20-8px-b2-bf16",
    ]
    assert all(row["ours"]["median"] > 0 for row in rows)
    assert rows[0]["temporary_bytes"] > rows[1]["temporary_bytes"] > 0
    lines = SUITE.markdown(rows).splitlines()
    assert len(lines) == 4
    assert "not run" in lines[2]


@pytest.mark.parametrize("name", ["hb_net20", "resnet20"])
def test_pytorch_is_measured_beside_it(name, options):
    pytest.importorskip("torch")
    rows = SUITE.run(options(SUITE, *SMALL, f"--networks={name}", "--batch=2"))
    assert all(row["ratio"]["median"] > 0 for row in rows)
    assert all(row["torch_form"] == "eager" for row in rows)


def test_a_network_without_a_pytorch_form_is_measured_alone(options):
    pytest.importorskip("torch")
    other = ("--networks=lenet5:2", "--image-size=32")
    rows = SUITE.run(options(SUITE, *SMALL, *other))
    assert all(row["ours"]["median"] > 0 for row in rows)
    assert all("torch" not in row and "torch_form" not in row for row in rows)
    assert SUITE.markdown(rows).count("not run") == 2


def test_networks_have_their_batches(options):
    assert networks.read_cases("resnet34:256,densenet40,lenet5") == [
        ("resnet34", 256),
        ("densenet40", 16),
        ("lenet5", 16),
    ]
    assert {name for name, _ in options(SUITE).networks} == set(networks.BATCHES)
    found = options(GPU)
    assert found.compiled
    assert found.bfloat16
    assert {name for name, _ in found.networks} <= set(NETWORKS)


def test_shares_of_the_peak(monkeypatch):
    kind = jax.devices()[0].device_kind
    row = {"ours": {"median": 0.5}, "bytes_accessed": 1e9}
    assert networks.shares(row, 1e11) == {}
    monkeypatch.setitem(networks.PEAKS, kind, (1e12, 4e9))
    found = networks.shares(row, 1e11)
    assert found == {"flops_share": 0.2, "bandwidth_share": 0.5}
    # The peak is bfloat16's.
    assert networks.shares(row, None) == {"bandwidth_share": 0.5}


@pytest.mark.parametrize(
    ("name", "kind", "side", "share"),
    [("vgg16", "no-bfloat16", 224, False), ("vit_base16", "bfloat16", 224, True)]
    + [("resnet34", "bfloat16", 224, True), ("lenet5", "bfloat16", 32, True)],
)
def test_a_network_has_the_images_and_the_shares_of_its_kind(
    name, kind, side, share, options, monkeypatch
):
    """Nothing is drawn, compiled or timed: of what shape it would be is asked."""
    shapes = []
    monkeypatch.setattr(timing, "has_torch", lambda: False)
    monkeypatch.setitem(networks.PEAKS, jax.devices()[0].device_kind, (1e12, 4e9))
    begun = types.SimpleNamespace(eval_variables={})

    def start(network, shape, count):
        shapes.append(shape)
        return begun, {"image": None}

    row = {"ours": {"median": 0.5}, "bytes_accessed": 1e9}
    monkeypatch.setattr(networks.programs, "start", start)
    for program in ("training_program", "inference_program"):
        monkeypatch.setattr(networks.programs, program, lambda *_: None)
    monkeypatch.setattr(
        timing, "time_programs", lambda made, *_: dict.fromkeys(made, row)
    )
    rows = GPU.run(options(GPU, f"--networks={name}:2", f"--{kind}"))
    assert shapes == [(side, side, 3)]
    assert all(("flops_share" in row) == share for row in rows)
    assert all("bandwidth_share" in row for row in rows)
