"""Training step and inference of the networks, beside PyTorch where it is installed."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from optnet_jax.benchmarks import jax_runs
from optnet_jax.benchmarks.activity import begin
from optnet_jax.benchmarks.jax_runs import Program, random_batch
from optnet_jax.benchmarks.suite import Row, Suite, interval, number
from optnet_jax.benchmarks.torch_process import (
    Runs,
    TorchProcess,
    beside,
    has_torch,
)
from optnet_jax.errors import InputError
from optnet_jax.networks import create
from optnet_jax.studies.tables import markdown_table

DEFAULT_BATCHES = {
    "resnet56": 32,
    "hb_net56": 32,
    "densenet40": 16,
    "agd_net40": 16,
    "resnet34": 4,
    "hb_net34": 4,
    "densenet121": 4,
    "agd_net121": 4,
}
"""Network -> images a step on one core."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a network is measured.

    Attributes:
      batch: images a step.
      image_size: height and width; 0: 224 with ImageNet's stem, 32 otherwise.
      repeats: timed rounds.
      torch: measure PyTorch's form beside ours.
      compiled: that form after ``torch.compile`` instead of eager.
      bfloat16: compute in bfloat16, both of them.
    """

    batch: int
    image_size: int
    repeats: int
    torch: bool
    compiled: bool = False
    bfloat16: bool = False


class Networks(Suite):
    """Ours beside PyTorch's channels-last form of the same network.

    Both have the same weights, take turns, each in a process of its own, and are
    checked to compute the same logits.
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add which networks are measured and how."""
        parser.add_argument("--networks", default=",".join(DEFAULT_BATCHES))
        parser.add_argument("--batch", type=int, default=0, help="images a step")
        parser.add_argument("--repeats", type=int, default=10, help="timed rounds")
        parser.add_argument(
            "--image-size", type=int, default=0, help="32 or 224 by default"
        )
        parser.add_argument(
            "--compiled", action="store_true", help="beside torch.compile's form"
        )
        parser.add_argument("--bfloat16", action="store_true", help="in bfloat16")

    def run(self, options: argparse.Namespace) -> list[Row]:
        """See :meth:`Suite.run`."""
        if options.repeats < 1 or options.batch < 0 or options.image_size < 0:
            raise InputError("--repeats, --batch and --image-size must be positive")
        if options.compiled and not has_torch():
            raise InputError("--compiled needs PyTorch: install it, or leave it out")
        rows: list[Row] = []
        for name in options.networks.split(","):
            setting = Setting(
                options.batch or DEFAULT_BATCHES.get(name, 16),
                options.image_size,
                options.repeats,
                has_torch(),
                options.compiled,
                options.bfloat16,
            )
            rows += measure(name, setting)
        return rows

    def markdown(self, rows: list[Row]) -> str:
        """Lay out the rows; ratios with their quartiles."""
        head = ["case", "ours (ms)", "PyTorch (ms)", "PyTorch / ours"]
        lines = []
        for row in rows:
            theirs, ratio = "not run", "-"
            if "ratio" in row:
                theirs = number(row["torch"]["median"], 1e3)
                ratio = interval(row["ratio"])
            lines.append(
                [
                    row["case"],
                    number(row["ours"]["median"], 1e3),
                    theirs,
                    ratio,
                    number(row["compile_seconds"]),
                    number(row["temporary_bytes"], 1e-6),
                ]
            )
        return markdown_table([*head, "our compile (s)", "our temporaries (MB)"], lines)


def measure(name: str, setting: Setting) -> list[Row]:
    """Time the training step and inference of one network.

    Args:
      name: of the network.
      setting: how.

    Returns:
      A row for the training step and one for inference.

    Raises:
      InputError: an unknown network, or one whose PyTorch form computes other logits.
    """
    begin(f"{name}: draw the parameters")
    network: Any = create(name)
    size = image_size(network, setting.image_size)
    batch = random_batch(setting.batch, (size, size, 3), network.num_classes)
    state = jax_runs.initial_state(network, (size, size, 3))
    form = {"compiled": setting.compiled, "bfloat16": setting.bfloat16}
    with contextlib.ExitStack() as stack:
        theirs = None
        if setting.torch:
            begin(f"{name}: check PyTorch's form of it")
            with jax.default_matmul_precision("highest"):
                logits = jax_runs.inference_program(network, state, batch["image"])
            variables = state.eval_variables
            theirs = stack.enter_context(
                TorchProcess(twin_runs, name, variables, batch, logits.run(), form)
            )
        if setting.bfloat16:
            network = network.clone(dtype=jnp.bfloat16)
        begin(f"{name}: compile the training step and inference")
        programs = {
            "train": jax_runs.training_program(network, state, batch),
            "inference": jax_runs.inference_program(network, state, batch["image"]),
        }
        suffix = f"{name}-{size}px-b{setting.batch}{'-bf16' * setting.bfloat16}"
        return [
            {"case": f"{kind}/{suffix}", **_row(name, kind, program, theirs, setting)}
            for kind, program in programs.items()
        ]


def twin_runs(
    device: str, name: str, variables: Any, batch: Any, logits: Any, form: dict
) -> Runs:
    """Make PyTorch's form of a network.

    Args:
      device: "cpu" or "cuda".
      name: of the network.
      variables: ``params`` and ``batch_stats``.
      batch: ``image`` and ``label``.
      logits: ours of evaluation, in float32.
      form: ``compiled`` and ``bfloat16``, of
        :meth:`~optnet_jax.benchmarks.torch_runs.Twin.training_run`.

    Returns:
      Its ``train`` and ``inference``.

    Raises:
      InputError: PyTorch's logits are others.
    """
    from optnet_jax.benchmarks.torch_runs import Twin

    twin = Twin(create(name), variables, batch, device)
    twin.check(logits)
    return {
        "train": twin.training_run(**form),
        "inference": twin.inference_run(**form),
    }


def _row(
    name: str,
    kind: str,
    program: Program,
    theirs: TorchProcess | None,
    setting: Setting,
) -> Row:
    """Time a program beside PyTorch's."""
    begin(f"{name}: {kind}, {setting.repeats} rounds")
    row: Row = {
        "compile_seconds": program.compile_seconds,
        "temporary_bytes": program.temporary_bytes,
        "bytes_accessed": program.bytes_accessed,
        **beside(program.run, theirs, kind, setting.repeats),
    }
    if theirs is not None:
        row["torch_form"] = "compiled" if setting.compiled else "eager"
    return row


def image_size(network: Any, size: int = 0) -> int:
    """Return ``size``, or for 0 that of the images that a network is made for."""
    return size or (224 if getattr(network, "stem", "") == "imagenet" else 32)


SUITE = Networks()
