import argparse

import jax
import pytest

from optnet_jax.benchmarks import epoch, gpu
from optnet_jax.benchmarks.networks import Setting
from optnet_jax.errors import InputError
from optnet_jax.networks import NETWORKS


@pytest.fixture
def row():
    return {
        "case": "train/agd_net40-8px-b2-bf16",
        "ours": {"median": 0.5},
        "temporary_bytes": 10**9,
        "bytes_accessed": 10**9,
    }


def test_shares_of_the_peak(monkeypatch, row):
    kind = jax.devices()[0].device_kind
    monkeypatch.setitem(gpu.PEAKS, kind, gpu.Peak(1e12, 4e9))
    setting = Setting(2, 32, 1, torch=False)
    found = gpu._shares(row, "densenet40", setting)
    # 264.8M multiply-adds an image, three passes of two images.
    assert found["flops"] == pytest.approx(2 * 3 * 264.8e6 * 2, rel=1e-3)
    assert found["flops_share"] == pytest.approx(found["flops"] / 0.5 / 1e12)
    assert found["bandwidth_share"] == pytest.approx(0.5)
    monkeypatch.delitem(gpu.PEAKS, kind)
    assert gpu._shares(row, "densenet40", setting)["flops_share"] is None


def test_pairs_and_the_epoch_are_reported(row):
    shares = {"flops_share": 0.25, "bandwidth_share": None}
    other = row | {"case": "train/densenet40-8px-b2-bf16", "ours": {"median": 0.4}}
    whole = {"case": "epoch/x", "steps": 7, "seconds": 2.0, "share": 0.97}
    text = gpu.SUITE.markdown([row | shares, other | shares, whole])
    assert "* train/agd_net40-8px-b2-bf16: 1.250 of train/densenet40" in text
    cells = text.splitlines()[2].split("|")
    assert [cell.strip() for cell in cells[4:7]] == ["25.0", "-", "1.00"]
    assert "An epoch of 7 steps as one program (epoch/x): 2.00 s, 97.0 %" in text


def test_an_epoch_is_timed_beside_its_steps():
    row = epoch.measure("lenet5", 2, 32, 6)
    assert row["steps"] == 3
    assert row["seconds"] > 0
    assert row["share"] > 0


def test_the_cases_are_networks():
    for text in gpu.CASES:
        name, batch = gpu._case(text)
        assert name in NETWORKS
        assert batch in (64, 256, 1024)
    with pytest.raises(InputError, match="a network and its batch"):
        gpu.SUITE.run(
            argparse.Namespace(
                cases="resnet34", repeats=1, image_size=8, epoch_images=4
            )
        )
