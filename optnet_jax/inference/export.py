"""A trained network in files that other programs read, and that ``load_run`` reads."""

import functools
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from optnet_jax.configuration import TrainConfig, as_json, load
from optnet_jax.errors import InputError, one_line, shown
from optnet_jax.inference.trained import CURE, Trained, load_run
from optnet_jax.networks.fields import are_several
from optnet_jax.networks.zoo import densenet, resnet
from optnet_jax.recurrences import GradientDescent, HeavyBall, HistorySum
from optnet_jax.runs import program
from optnet_jax.runs.files import write_output
from optnet_jax.runs.progress import say
from optnet_jax.training import result as result_lib
from optnet_jax.training.differences import NOT_SET, differing, settled, within
from optnet_jax.weights import state_dict, torchvision

PLATFORMS = ("cpu", "cuda", "tpu")
CARD = ("final", "best", "parameters", "epochs", "date", "versions", "device", "commit")
"""What a card says of the run, as its ``result.json`` has it ..."""
NOT_RECORDED = "not recorded"
"""... or this."""
# What makes torchvision's networks of their weights; in a transformer by ``skip``.
_CONVOLUTIONAL = (resnet().recurrence, densenet().recurrence, HistorySum())
_BRANCHES, _SUMS = (HeavyBall(1.0, 0.0),), (GradientDescent(),)
_ATTENTIVE = {None: _BRANCHES + _SUMS, False: _BRANCHES, True: _SUMS}


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
    result = result_lib.read(workdir)
    files = export(run, workdir / "exported" / run.config.name, result)
    for file in files:
        program.tell(f"written: {file}")
    return files


def export(run: Trained, base: Path, result: Mapping[str, Any] | None = None) -> list:
    """Write a trained network.

    * ``.safetensors``: its variables in float32, under their paths;
    * ``.json``: its card: config, the command that trains by it, data set, step and
      what ``result`` says. With both, ``load_run`` loads the network;
    * ``.stablehlo``: the program from images, uint8 [B, H, W, C] for any B of the data
      set's shape, to probabilities, with preprocessing and weights, as
      ``jax.export.deserialize`` reads it; for CPUs, CUDA and TPUs;
    * ``.torchvision.safetensors``: torchvision's state dict, for networks that it has;
      of others it is said why there is none.

    Args:
        run: The network.
        base: The files' path without their endings.
        result: ``result.json`` of its run; by default what its card says, if it has
            been exported before. Its last error is the card's ``final`` if that is of
            these variables, its best one likewise.

    Returns:
        The files.

    Raises:
        InputError: if one cannot be written, or the network gives no such program;
            those before it stay.
    """
    config = as_json(run.config)
    config["data"] |= {"data_dir": "", "folder": ""}  # places on this machine
    recorded = dict(result or run.card or {})
    evaluations = [recorded.get(name) for name in ("final", "best")]
    known = (e for e in evaluations if isinstance(e, Mapping))
    recorded["final"] = next((e for e in known if e.get("step") == run.step), None)
    card = {
        "config": config,
        "command": command(run.config) or NOT_RECORDED,
        "dataset": run.dataset,
        "step": run.step,
        **{name: recorded.get(name) or NOT_RECORDED for name in CARD},
    }
    weights, described, program_file = (
        base.with_name(base.name + ending)
        for ending in (".safetensors", ".json", ".stablehlo")
    )
    state_dict.save_variables(weights, run.variables)
    write_output(described, (json.dumps(card, indent=1) + "\n").encode(), CURE)
    try:
        program_bytes = bytes(stablehlo(run).serialize())
    except Exception as error:  # a network of one's own may do anything
        raise InputError(
            f"{weights} and its card are written, but {run.config.model.name} gives no "
            f"program for any number of images ({one_line(error, 200)}): it must use "
            "images.shape[0] for len(images), and call no Python while it runs"
        ) from error
    write_output(program_file, program_bytes, CURE)
    files = [weights, described, program_file]
    theirs = base.with_name(base.name + ".torchvision.safetensors")
    try:
        state = torchvision.export_state_dict(run.network, run.variables)
        _check_function(run.network)
    except InputError as error:
        theirs.unlink(missing_ok=True)  # of an earlier version, which wrote it
        say(f"not written: {theirs}: {error}")
        return files
    state_dict.write_state_dict(theirs, state)
    return [*files, theirs]


def _check_function(network: Any) -> None:
    """Refuse a network of which torchvision has the weights, and not the function."""
    methods = getattr(network, "recurrence", ())
    methods = methods if are_several(methods) else (methods,)
    own = _CONVOLUTIONAL
    if hasattr(network, "patch_size"):
        own = _ATTENTIVE[getattr(network, "skip", None)]
    other = [f"recurrence={shown(method)}" for method in methods if method not in own]
    other += [
        f"{name}={shown(value)}"
        for name in ("learned", "unit_relu")
        if (value := getattr(network, name, None))
    ]
    if other:
        raise InputError(
            f"torchvision's network does not have {other[0]}: with these weights it "
            "computes something else. optnet_jax.weights.torchvision.save writes them "
            "all the same"
        )


def command(config: TrainConfig) -> str | None:
    """Return the command that trains by a config.

    Where things lie and how often they are written is left out.

    Args:
        config: As it was run, under the name that its file gave it.

    Returns:
        The command; ``None`` if the config comes from no file of the package.
    """
    stem, *arguments = re.split(r"-(?=\w+=)", config.name)  # as the recipes join them
    flag = ":".join(filter(None, (f"configs/{stem}.py", ",".join(arguments))))
    try:
        given = TrainConfig.of(load(flag))
    except InputError:
        return None
    before, after = (
        flatten_dict(settled(as_json(one)), sep=".") for one in (given, config)
    )
    words = ["python", "-m", "optnet_jax.main", f"--config={flag}"]
    for name, _, now in differing(before, after):
        if within(name, TrainConfig.free):
            continue
        if now == NOT_SET:
            return None
        value = tuple(now) if isinstance(now, list) else now
        words.append(f"--config.{name}={value}")
    return shlex.join(words)


def stablehlo(run: Trained) -> jax.export.Exported:
    """Return the program from images to probabilities, for any number of images."""
    probabilities = functools.partial(run.probabilities, run.variables)
    (batch,) = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *run.preprocessing.image_shape), jnp.uint8)
    return jax.export.export(jax.jit(probabilities), platforms=PLATFORMS)(images)
