"""The training step as the TPU's compiler sees it: nothing is run, no TPU is needed.

Beside ours stand ResNet-34 and DenseNet-121 in linen's own layers: what anyone would
write first.
"""

import argparse
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

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
from optnet_jax.networks import create
from optnet_jax.runs.program import tell
from optnet_jax.training.experiment import has_groups
from optnet_jax.training.summary import experiment_on

CASES = ",".join(
    f"{name}:{place}"
    for place in ("256@v5e:2x2", "512@v5e:2x2", "256@v5e:4x4")
    for name in ("plain_resnet34", "resnet34", "hb_net34")
)


class PlainNet(nn.Module):
    """Stem, stages, mean over the pixels and a layer of logits, for ImageNet.

    Attributes:
        stage_sizes: the number of units of each stage.
        num_classes: number of logits.
        dtype: of the computation.
    """

    stage_sizes: tuple[int, ...]
    num_classes: int = 1000
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Return float32 logits of images, [B, 224, 224, 3]."""
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
        )
        x = conv(64, (7, 7), (2, 2), padding=3)(images)
        x = nn.relu(norm()(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=[(1, 1), (1, 1)])  # pyright: ignore
        x = self.stages(x, conv, norm).mean((1, 2))
        return nn.Dense(self.num_classes)(x.astype(jnp.float32))

    def stages(self, x: jax.Array, conv: Any, norm: Any) -> jax.Array:
        """Return what the stages make of the stem's output."""
        raise NotImplementedError


class PlainResNet(PlainNet):
    """Residual units of two convolutions (He et al. 2016)."""

    def stages(self, x: jax.Array, conv: Any, norm: Any) -> jax.Array:
        """See :meth:`PlainNet.stages`."""
        for i, units in enumerate(self.stage_sizes):
            for j in range(units):
                features, stride = 64 * 2**i, 2 if i > 0 and j == 0 else 1
                y = conv(features, (3, 3), (stride, stride), padding=1)(x)
                y = norm()(conv(features, (3, 3), padding=1)(nn.relu(norm()(y))))
                if x.shape != y.shape:
                    x = norm()(conv(features, (1, 1), (stride, stride))(x))
                x = nn.relu(x + y)
        return x


class PlainDenseNet(PlainNet):
    """Dense units with a bottleneck, growth rate 32 (Huang et al. 2017)."""

    def stages(self, x: jax.Array, conv: Any, norm: Any) -> jax.Array:
        """See :meth:`PlainNet.stages`."""
        for i, units in enumerate(self.stage_sizes):
            if i:
                x = conv(x.shape[-1] // 2, (1, 1))(nn.relu(norm()(x)))
                x = nn.avg_pool(x, (2, 2), (2, 2))
            for _ in range(units):
                y = conv(128, (1, 1))(nn.relu(norm()(x)))
                y = conv(32, (3, 3), padding=1)(nn.relu(norm()(y)))
                x = jnp.concatenate([x, y], -1)
        return nn.relu(norm()(x))


PLAIN = {
    "plain_resnet34": functools.partial(PlainResNet, (3, 4, 6, 3)),
    "plain_densenet121": functools.partial(PlainDenseNet, (6, 12, 24, 16)),
}
"""Name -> network, beside those of :mod:`optnet_jax.networks`."""


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
    model: dict[str, Any] = {"name": ours}
    if case.network not in PLAIN and has_groups(create(ours)):
        if case.batch % options.group:
            raise InputError(
                f"{case.network}:{case.batch} has no whole BatchNorm groups of "
                f"--group={options.group} images: give a --group that divides it"
            )
        model["batch_norm_group"] = options.group
    fields.model = model
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
