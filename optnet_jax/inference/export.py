"""A trained network in files that other programs read, and that ``load_run`` reads."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from optnet_jax.errors import InputError
from optnet_jax.inference.trained import Trained, load_run
from optnet_jax.runs import program
from optnet_jax.runs.files import write_output
from optnet_jax.training.workdir import as_json, read_json
from optnet_jax.weights import state_dict, torchvision

PLATFORMS = ("cpu", "cuda", "tpu")
CURE = "make room, or choose another --workdir"
CARD = ("final", "best", "parameters", "epochs", "date", "versions", "device", "commit")
"""What a card says of the run, as its ``result.json`` has it."""


def export_run(workdir: Path, checkpoint: str = "last") -> list[Path]:
    """Write what :func:`export` does into the folder ``exported`` of a workdir.

    Args:
        workdir: Of a run.
        checkpoint: As of :func:`~.trained.load_run`.

    Returns:
        The files.

    Raises:
        InputError: if there is no sound run, or if a file cannot be written.
    """
    run = load_run(workdir, checkpoint)
    result = read_json(workdir / "result.json") or {}
    files = export(run, workdir / "exported" / run.config.name, result)
    for file in files:
        program.tell(f"written: {file}")
    return files


def export(run: Trained, base: Path, result: Mapping[str, Any] | None = None) -> list:
    """Write a trained network.

    * ``.safetensors``: its variables in float32, under their paths;
    * ``.json``: its card: config, data set, step and what ``result`` says. With both,
      ``load_run`` loads the network;
    * ``.stablehlo``: the program from images, uint8 [B, H, W, C] for any B of the data
      set's shape, to probabilities, with preprocessing and weights, as
      ``jax.export.deserialize`` reads it; for CPUs, CUDA and TPUs;
    * ``.torchvision.safetensors``: torchvision's state dict, for networks that it has.

    Args:
        run: The network.
        base: The files' path without their endings.
        result: ``result.json`` of its run, if there is one.

    Returns:
        The files.

    Raises:
        InputError: if one cannot be written; those before it stay.
    """
    config = as_json(run.config)
    config["data"]["data_dir"] = ""  # where the set lay on this machine
    card = {
        "config": config,
        "dataset": run.dataset,
        "step": run.step,
        **{name: result[name] for name in CARD if result and name in result},
    }
    weights, described, program_file = (
        base.with_name(base.name + ending)
        for ending in (".safetensors", ".json", ".stablehlo")
    )
    weights.parent.mkdir(parents=True, exist_ok=True)
    state_dict.save_variables(weights, run.variables)
    write_output(described, (json.dumps(card, indent=1) + "\n").encode(), CURE)
    write_output(program_file, bytes(stablehlo(run).serialize()), CURE)
    files = [weights, described, program_file]
    try:
        state = torchvision.export_state_dict(run.network, run.variables)
    except InputError:  # torchvision has no such network
        return files
    files.append(base.with_name(base.name + ".torchvision.safetensors"))
    state_dict.write_state_dict(files[-1], state)
    return files


def stablehlo(run: Trained) -> jax.export.Exported:
    """Return the program from images to probabilities, for any number of images."""
    probabilities = functools.partial(run.probabilities, run.variables)
    (batch,) = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *run.preprocessing.image_shape), jnp.uint8)
    return jax.export.export(jax.jit(probabilities), platforms=PLATFORMS)(images)
