import argparse

import jax
import numpy as np
import pytest

from optnet_jax.benchmarks import convolutions
from optnet_jax.errors import InputError

CASE = "2x4x6x3-5"


def options(cases=CASE):
    return argparse.Namespace(cases=cases, repeats=1)


def test_each_result_is_timed_and_its_speed_is_told(monkeypatch):
    monkeypatch.setattr(convolutions, "has_torch", lambda: False)
    rows = convolutions.SUITE.run(options())
    assert [row["of"] for row in rows] == [
        "y",
        "its gradient by x",
        "its gradient by w",
    ]
    # Two operations for each of 9 taps, 3 channels, 5 features and 48 pixels.
    assert {row["operations"] for row in rows} == {2 * 9 * 3 * 5 * 48}
    for row in rows:
        row["ours"]["median"] = row["operations"] * 1e-9  # a GFLOP/s
    lines = convolutions.SUITE.markdown(rows).splitlines()
    assert len(lines) == 2 + 3
    assert [cell.strip() for cell in lines[2].split("|")[4:6]] == ["1.00", "not run"]


@pytest.mark.parametrize("case", ["2x4x6x3", "2x4x6-5", "2x4x6xc-5", "0x4x6x3-5"])
def test_a_case_that_is_no_convolution(case):
    with pytest.raises(InputError, match="must be as 4x56x56x64-64"):
        convolutions.SUITE.run(options(f"{CASE},{case}"))


def test_every_case_is_a_convolution():
    for case in convolutions.CASES:
        x, w, dy = convolutions._operands(case)
        assert w.shape == (3, 3, x.shape[-1], dy.shape[-1])
        assert dy.shape[:3] == x.shape[:3]


def test_pytorch_is_measured_beside_it():
    pytest.importorskip("torch")
    rows = convolutions.SUITE.run(options())
    assert all(row["ratio"]["median"] > 0 for row in rows)


@pytest.mark.parametrize("of", ["y", "its gradient by x", "its gradient by w"])
def test_pytorch_must_compute_the_same(of):
    pytest.importorskip("torch")
    operands = convolutions._operands(CASE)
    x, w, dy = operands
    dx, dw = jax.device_get(convolutions._gradients(x, w, dy))
    results = {
        "y": np.asarray(convolutions.same_convolution(x, w)),
        "its gradient by x": dx,
        "its gradient by w": dw,
    }
    runs = convolutions.torch_convolutions("cpu", *operands, results)
    assert list(runs) == list(results)
    results[of] = results[of] * 1.001
    with pytest.raises(InputError, match=f"PyTorch's {of} differs by 1.0e-03"):
        convolutions.torch_convolutions("cpu", *operands, results)
