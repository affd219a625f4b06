"""One network measured, and measurements as a table."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.benchmarks import jax_runs
from optnet_jax.benchmarks.timing import Spread, ratios, take_turns
from optnet_jax.networks import create


def measure(
    name: str, batch_size: int, image_size: int, repeats: int, with_torch: bool
) -> list[dict[str, Any]]:
    """Time the training step and inference of one network.

    Args:
      name: of the network.
      batch_size: images a step.
      image_size: height and width; 0: 224 with ImageNet's stem, 32 otherwise.
      repeats: timed rounds.
      with_torch: measure PyTorch's form beside it.

    Returns:
      A row for the training step and one for inference.

    Raises:
      InputError: an unknown network, or one whose PyTorch form computes other logits.
    """
    network: Any = create(name)
    size = image_size or (224 if getattr(network, "stem", "") == "imagenet" else 32)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch_size, size, size, 3), np.float32)
    labels = rng.integers(0, network.num_classes, batch_size)
    batch = {"image": jnp.asarray(images), "label": jnp.asarray(labels)}
    state = jax_runs.initial_state(network, (size, size, 3))
    programs = {
        "train": jax_runs.training_program(network, state, batch),
        "inference": jax_runs.inference_program(network, state, batch["image"]),
    }
    theirs: dict[str, Any] = {}
    if with_torch:
        import torch

        from optnet_jax.benchmarks.torch_runs import Twin

        device = "cpu" if jax.default_backend() == "cpu" else "cuda"
        if device == "cpu":
            torch.set_num_threads(1)
        twin = Twin(network, state.eval_variables, batch, device)
        twin.check(programs["inference"].run())
        theirs["train"] = twin.training_run(compiled=False, bfloat16=False)
        theirs["inference"] = twin.inference_run(compiled=False, bfloat16=False)
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    rows = []
    for kind, program in programs.items():
        functions = {"ours": program.run}
        if kind in theirs:
            functions["torch"] = theirs[kind]
        times = take_turns(functions, repeats, clock)
        row: dict[str, Any] = {
            "case": f"{kind}/{name}-{size}px-b{batch_size}",
            "compile_seconds": program.compile_seconds,
            "temporary_bytes": program.temporary_bytes,
        }
        for who, values in times.items():
            row[who] = dataclasses.asdict(Spread.of(values))
        if "torch" in times:
            ratio = ratios(times["torch"], times["ours"])
            row["ratio"] = dataclasses.asdict(ratio)
        rows.append(row)
    return rows


def environment() -> dict[str, str]:
    """Return what the numbers depend on."""
    return {
        "date": datetime.date.today().isoformat(),
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "jax": jax.__version__,
    }


def markdown(result: dict[str, Any]) -> str:
    """Lay out measurements as a Markdown table; ratios with their quartiles."""
    lines = [
        ", ".join(f"{key} {value}" for key, value in result["environment"].items()),
        "",
        "| case | ours (ms) | PyTorch (ms) | PyTorch / ours | compile (s) | MB |",
        "| :-- | --: | --: | --: | --: | --: |",
    ]
    for row in result["rows"]:
        cells = [row["case"], f"{1e3 * row['ours']['median']:.0f}", "not run", "-"]
        if "ratio" in row:
            ratio = row["ratio"]
            cells[2] = f"{1e3 * row['torch']['median']:.0f}"
            cells[3] = f"{ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"
        memory = row["temporary_bytes"]
        cells.append(f"{row['compile_seconds']:.1f}")
        cells.append("-" if memory is None else f"{memory / 1e6:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
