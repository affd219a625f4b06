"""Training on an accelerator: how much of it is used, and epochs as one program."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import jax

from optnet_jax.benchmarks import epoch
from optnet_jax.benchmarks.networks import Setting, image_size, measure
from optnet_jax.benchmarks.suite import Row, Suite, number
from optnet_jax.benchmarks.torch_process import has_torch
from optnet_jax.errors import InputError
from optnet_jax.inspect.cost import cost
from optnet_jax.networks import create
from optnet_jax.studies.tables import markdown_table


class Peak(NamedTuple):
    """What a device can do at most, as its maker states it.

    Attributes:
      flops: bfloat16 operations per second, dense.
      bandwidth: bytes per second of its memory.
    """

    flops: float
    bandwidth: float


PEAKS = {
    "NVIDIA H200": Peak(989e12, 4.8e12),
    "NVIDIA H100 80GB HBM3": Peak(989e12, 3.35e12),
    "NVIDIA H100 PCIe": Peak(756e12, 2.0e12),
    "NVIDIA A100-SXM4-80GB": Peak(312e12, 2.04e12),
    "NVIDIA A100-SXM4-40GB": Peak(312e12, 1.56e12),
}
"""JAX's name of a device -> its peaks."""
IMAGENET = ("resnet34", "hb_net34", "densenet121", "agd_net121")
CIFAR = ("densenet40", "agd_net40", "resnet110", "hb_net110")
CASES = (
    *(f"{name}:256" for name in IMAGENET),
    *(f"{name}:{batch}" for name in CIFAR for batch in (64, 1024)),
)
"""Network and images a step."""
PAIRS = {"hb_net": "resnet", "agd_net": "densenet"}
"""A network -> the baseline whose time its own is put beside."""


class Gpu(Suite):
    """bfloat16 steps beside ``torch.compile``'s, with shares of the device's peaks.

    A step's operations are 2 × 3 multiply-adds of the convolutions and products; the
    bytes are those that the compiler counts for its operations, an upper bound of what
    goes to memory. Then one epoch of CIFAR's size as one program, see :mod:`.epoch`.
    """

    one_core = False

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the cases and the epoch."""
        parser.add_argument("--cases", default=",".join(CASES), help="network:batch")
        parser.add_argument("--image-size", type=int, default=0)
        parser.add_argument("--repeats", type=int, default=20, help="timed rounds")
        parser.add_argument("--epoch", default="agd_net40:64", help="network:batch")
        parser.add_argument("--epoch-images", type=int, default=50_000)

    def run(self, options: argparse.Namespace) -> list[Row]:
        """See :meth:`Suite.run`."""
        if options.repeats < 1 or options.image_size < 0 or options.epoch_images < 1:
            raise InputError("--repeats and --epoch-images must be positive")
        rows = []
        for name, batch in map(_case, options.cases.split(",")):
            setting = Setting(
                batch,
                options.image_size,
                options.repeats,
                torch=has_torch(),
                compiled=True,
                bfloat16=True,
            )
            rows += [_shares(row, name, setting) for row in measure(name, setting)]
        name, batch = _case(options.epoch)
        size = image_size(create(name), options.image_size)
        rows.append(epoch.measure(name, batch, size, options.epoch_images))
        return rows

    def markdown(self, rows: list[Row]) -> str:
        """Lay out the steps, the pairs of networks, and the epoch."""
        *steps, whole = rows
        head = ["case", "ours (ms)", "torch.compile / ours", "of peak FLOP/s (%)"]
        lines = [
            [
                row["case"],
                number(row["ours"]["median"], 1e3),
                f"{row['ratio']['median']:.2f}" if "ratio" in row else "not run",
                number(row["flops_share"], 100),
                number(row["bandwidth_share"], 100),
                number(row["temporary_bytes"], 1e-9),
            ]
            for row in steps
        ]
        measured = markdown_table(
            [*head, "of bandwidth (%)", "temporaries (GB)"], lines
        )
        times = {row["case"]: row["ours"]["median"] for row in steps}
        pairs = [
            f"* {case}: {times[case] / times[other]:.3f} of {other}'s time"
            for case in times
            for ours, theirs in PAIRS.items()
            if (other := case.replace(ours, theirs)) in times and other != case
        ]
        return "\n".join([measured, "", *pairs, "", epoch.sentence(whole)])


def _case(text: str) -> tuple[str, int]:
    name, _, batch = text.partition(":")
    if not batch.isdecimal() or int(batch) < 1:
        raise InputError(f"{text!r} must be a network and its batch, as resnet34:256")
    return name, int(batch)


def _shares(row: Row, name: str, setting: Setting) -> Row:
    """Add the shares of the device's peaks, None for a device without an entry."""
    peak = PEAKS.get(jax.devices()[0].device_kind)
    network: Any = create(name)
    size = image_size(network, setting.image_size)
    passes = 3 if row["case"].startswith("train") else 1
    flops = 2 * passes * cost(network, (size, size, 3)).multiply_adds * setting.batch
    seconds, moved = row["ours"]["median"], row["bytes_accessed"]
    return row | {
        "flops": flops,
        "flops_share": flops / seconds / peak.flops if peak else None,
        "bandwidth_share": moved / seconds / peak.bandwidth if peak and moved else None,
    }


SUITE = Gpu()
