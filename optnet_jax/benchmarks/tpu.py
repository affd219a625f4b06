"""The training step as the TPU's compiler sees it: nothing is run, no TPU is needed."""

import argparse
import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from optnet_jax.benchmarks.plain import PLAIN
from optnet_jax.benchmarks.suite import (
    Column,
    Row,
    Suite,
    network_name,
    positive,
)
from optnet_jax.configs import recipes
from optnet_jax.configuration import TrainConfig
from optnet_jax.errors import InputError
from optnet_jax.inspect import tpu
from optnet_jax.runs.program import tell
from optnet_jax.training.summary import experiment_on

CASES = ",".join(
    f"{name}:{place}"
    for place in ("256@v5e:2x2", "512@v5e:2x2", "256@v5e:4x4")
    for name in ("plain_resnet34", "resnet34", "hb_net34")
)


class Case(NamedTuple):
    """A network, the images of a step over all chips, and the name of the slice."""

    network: str
    batch: int
    topology: str


def read_cases(text: str) -> list[Case]:
    """Read cases, as "resnet34:256@v5e:2x2,hb_net34:256@v5e:4x4", for argparse."""
    cases = []
    for part in text.split(","):
        step, _, topology = part.partition("@")
        name, _, batch = step.partition(":")
        try:
            tpu.check_name(topology)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        name = name if name in PLAIN else network_name(name)
        cases.append(Case(name, positive(batch), topology))
    return cases


def _measure(case: Case, options: argparse.Namespace) -> list[Row]:
    """Compile the step of ImageNet's recipe in bfloat16.

    Plain linen's BatchNorm knows no groups: it takes the whole batch, on all chips.
    """
    tell(f"{case.network}: compile for {case.topology}")
    place = tpu.topology(case.topology)
    fields, _ = recipes.imagenet(case.network, "")
    fields.precision = "bfloat16"
    fields.data.batch_size = case.batch
    ours = "resnet34" if case.network in PLAIN else case.network
    fields.model = {"name": ours, "batch_norm_group": options.group}
    experiment = experiment_on(TrainConfig.of(fields), place)
    if case.network in PLAIN:
        module = PLAIN[case.network](dtype=jnp.bfloat16)
        experiment = dataclasses.replace(experiment, module=module)
    found = tpu.compile_for(place, experiment.lowered_train_step())
    row = {
        "case": case.network,
        "on": f"{case.batch} on {case.topology}",
        "fits": "yes" if found.fits else "no",
        "memory": found.memory,
        "compile_seconds": found.seconds,
        "compiler": tpu.version(),
    }
    if found.fits:
        rate, bound = tpu.images_per_second(place, found, case.batch)
        row |= {
            "hbm": found.hbm * place.chips / case.batch,
            "traffic": found.traffic * place.chips / case.batch,
            "flops": found.flops * place.chips / case.batch,
            "collectives": sum(found.collectives.values()),
            "rate": rate / place.chips,
            "bound": bound,
        }
    return [row]


SUITE = Suite(
    "tpu",
    "what a TPU's compiler says of the training step, beside plain linen's",
    "cases",
    _measure,
    (
        Column("network", "case"),
        Column("images on chips", "on"),
        Column("fits", "fits"),
        Column("memory a chip (GiB)", "memory", 2**-30),
        Column("HBM an image (MB)", "hbm", 1e-6),
        Column("with on-chip memory", "traffic", 1e-6),
        Column("GFLOP an image", "flops", 1e-9),
        Column("collectives", "collectives"),
        Column("images/s a chip, at most", "rate"),
        Column("by", "bound"),
        Column("compile time (s)", "compile_seconds"),
    ),
    {
        "cases": {
            "type": read_cases,
            "default": CASES,
            "help": "network:batch@topology, several with commas between them; also "
            + ", ".join(PLAIN),
        },
        "group": {"type": positive, "default": 64, "help": "images a BatchNorm group"},
    },
    repeats=0,
    one_core=False,
)
