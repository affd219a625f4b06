"""Training steps and inference of the networks, beside PyTorch where it is."""

import argparse
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from optnet_jax.benchmarks import programs, timing
from optnet_jax.benchmarks.suite import (
    RATIO,
    THEIRS,
    Column,
    Row,
    Suite,
    network_name,
    positive,
)
from optnet_jax.inspect.cost import cost
from optnet_jax.networks import create
from optnet_jax.runs.program import tell

BATCHES = {
    "resnet56": 32,
    "hb_net56": 32,
    "densenet40": 16,
    "agd_net40": 16,
    "resnet34": 4,
    "hb_net34": 4,
    "densenet121": 4,
    "agd_net121": 4,
}
"""Network -> images a step on one core; 16 for all others."""
ON_AN_ACCELERATOR = (
    "resnet34:256,hb_net34:256,densenet121:256,agd_net121:256,"
    "densenet40:64,densenet40:1024,agd_net40:64,agd_net40:1024,"
    "resnet110:64,resnet110:1024,hb_net110:64,hb_net110:1024"
)
PEAKS = {
    "NVIDIA H200": (989e12, 4.8e12),
    "NVIDIA H100 80GB HBM3": (989e12, 3.35e12),
    "NVIDIA H100 PCIe": (756e12, 2.0e12),
    "NVIDIA A100-SXM4-80GB": (312e12, 2.04e12),
    "NVIDIA A100-SXM4-40GB": (312e12, 1.56e12),
}
"""JAX's name of a device -> bfloat16 operations per second, dense, and bytes per second
of its memory, as its maker states them."""


def read_cases(text: str) -> list[tuple[str, int]]:
    """Read networks and images a step, as "resnet34:256,densenet40", for argparse."""
    cases = []
    for part in text.split(","):
        name, colon, batch = part.partition(":")
        count = positive(batch) if colon else BATCHES.get(name, 16)
        cases.append((network_name(name), count))
    return cases


def _measure(case: tuple[str, int], options: argparse.Namespace) -> list[Row]:
    """Time the training step and inference of one network, beside PyTorch's.

    Both have the same weights, take turns, each in a process of its own, and are
    checked to compute the same logits.
    """
    name, count = case[0], options.batch or case[1]
    tell(f"{name}: draw the parameters")
    network: Any = create(name)
    size = options.image_size or (224 if network.num_classes == 1000 else 32)
    shape = (size, size, 3)
    state, batch = programs.start(network, shape, count)

    def logits() -> jax.Array:
        tell(f"{name}: check PyTorch's form of it")
        with jax.default_matmul_precision("highest"):
            return programs.inference_program(network, state, batch["image"]).run()

    arguments = (name, state.eval_variables, batch, options.compiled, options.bfloat16)
    multiply_adds = count * cost(network, shape).multiply_adds
    suffix = f"{name}-{size}px-b{count}{'-bf16' * options.bfloat16}"
    rows = []
    with timing.torch_process("network_runs", logits, *arguments) as torch:
        tell(f"{name}: compile the training step and inference")
        if options.bfloat16:
            network = network.clone(dtype=jnp.bfloat16)
        made = {
            "train": programs.training_program(network, state, batch),
            "inference": programs.inference_program(network, state, batch["image"]),
        }
        for kind, program in made.items():
            tell(f"{name}: {kind}, {options.repeats} rounds")
            row = timing.time_programs({kind: program}, options.repeats, torch)[kind]
            flops = 2 * multiply_adds * (3 if kind == "train" else 1)
            if torch:
                row["torch_form"] = "compiled" if options.compiled else "eager"
            row |= shares(row, flops if options.bfloat16 else None)
            rows.append({"case": f"{kind}/{suffix}", **row})
    return rows


def shares(row: Row, flops: float | None) -> dict[str, float]:
    """Return the shares of the device's peaks, nothing for a device without an entry.

    Args:
        row: of a program. Its bytes are those that the compiler counts for its
            operations, an upper bound of what goes to memory.
        flops: 2 for each multiply-add of its convolutions and products; None where
            they are not in bfloat16, of which the peak is.
    """
    kind, seconds = jax.devices()[0].device_kind, row["ours"]["median"]
    if kind not in PEAKS:
        return {}
    peak_flops, peak_bandwidth = PEAKS[kind]
    found = {"bandwidth_share": row["bytes_accessed"] / seconds / peak_bandwidth}
    if flops is not None:
        found["flops_share"] = flops / seconds / peak_flops
    return found


def _options(cases: str, accelerator: bool) -> dict[str, dict[str, Any]]:
    switch = {"action": argparse.BooleanOptionalAction, "default": accelerator}
    text = "network or network:batch, several with commas between them"
    return {
        "networks": {"type": read_cases, "default": cases, "help": text},
        "batch": {"type": positive, "default": 0, "help": "images a step, of all"},
        "image-size": {"type": positive, "default": 0, "help": "else 224 or 32"},
        "compiled": {**switch, "help": "beside torch.compile's form, not the eager"},
        "bfloat16": {**switch, "help": "compute in bfloat16"},
    }


NETWORKS = Suite(
    "networks",
    "training step and inference of each network, beside PyTorch's",
    "networks",
    _measure,
    (
        Column("case", "case"),
        Column("ours (ms)", "ours", 1e3),
        THEIRS,
        RATIO,
        Column("our compile (s)", "compile_seconds"),
        Column("our temporaries (MB)", "temporary_bytes", 1e-6),
    ),
    _options(",".join(BATCHES), accelerator=False),
    beside_torch=True,
)
GPU = dataclasses.replace(
    NETWORKS,
    name="gpu",
    answers="bfloat16 on an accelerator, beside torch.compile's; shares of its peaks",
    columns=(
        *NETWORKS.columns,
        Column("of peak FLOP/s (%)", "flops_share", 100),
        Column("of bandwidth (%)", "bandwidth_share", 100),
    ),
    options=_options(ON_AN_ACCELERATOR, accelerator=True),
    repeats=20,
    one_core=False,
)
SUITES = (NETWORKS, GPU)
