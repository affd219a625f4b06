"""Time, memory and compile time of a training step against one quantity, as curves."""

import argparse
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from optnet_jax.benchmarks import programs
from optnet_jax.benchmarks.suite import (
    COMPILE,
    MEMORY,
    RATIO,
    THEIRS,
    TIME,
    Column,
    Row,
    Suite,
    begin,
    positive,
    whole_numbers,
)
from optnet_jax.networks import create
from optnet_jax.recurrences import methods, number_of_paths
from optnet_jax.structures import FullyConnected, Propagation

SHAPE, DIM = (32, 32, 3), 100
WRITTEN_OUT = 110
"""Up to this many layers the stages are also written out: it takes long to compile."""
TABLE_2 = ("gd", "hb", "agd", "agd2", "admm")
"""The methods of §5.3's simulation."""

Forms = Mapping[str, tuple[str, dict[str, Any]]]
Fields = Callable[[int], dict[str, Any]]


def read_depths(text: str) -> tuple[int, ...]:
    """Read numbers of layers of an HB-Net, for argparse."""
    for layers in (depths := whole_numbers(text)):
        if layers % 6 != 2 or layers < 14:
            message = f"an HB-Net has 6 n + 2 layers, n > 1, not {layers}"
            raise argparse.ArgumentTypeError(message)
    return depths


def _networks(
    axis: str, forms: Forms, fields: Fields, value: int, options: argparse.Namespace
) -> list[Row]:
    """Time a training step of each form on 32×32 images, in turns."""
    made = {}
    for form, (name, own) in forms.items():
        if own.get("unroll") and value > WRITTEN_OUT:
            continue
        begin(f"{form}, {value} {axis}: compile")
        network = create(name, **own, **fields(value))
        state, batch = programs.start(network, SHAPE, options.batch or value)
        made[form] = programs.training_program(network, state, batch)
    begin(f"{value} {axis}: {options.repeats} rounds")
    rows = programs.time_programs(made, options.repeats)
    return [{"form": form, "at": value, **row} for form, row in rows.items()]


def _structures(depth: int, options: argparse.Namespace) -> list[Row]:
    """Time a step of SGD of each structure of Table 2 on random pairs, in turns.

    PyTorch runs the same recurrences over the same weights, eagerly.
    """
    x, f = jax.random.normal(jax.random.key(0), (2, options.batch, DIM))
    made, weights, outputs = {}, {}, {}
    for method in map(methods.find, TABLE_2):
        network = Propagation(
            method.recurrence(),
            FullyConnected(),
            depth,
            separate_paths=number_of_paths(method.recurrence()) == 2,
        )
        params = network.init(jax.random.key(1), x)["params"]
        weights[method.key] = params["layers"]
        outputs[method.key] = network.apply({"params": params}, x)
        for form, remat in ((method.name, False), (f"{method.name}, remat", True)):
            begin(f"{form}, {depth} layers: compile")
            made[form] = _step(network.clone(remat=remat), params, x, f)
    arguments = (lambda: outputs, weights, x, f)
    with programs.torch_process("structure_runs", *arguments) as torch:
        begin(f"{depth} layers: {options.repeats} rounds")
        rows = programs.time_programs(made, options.repeats, torch)
    return [{"form": form, "at": depth, **row} for form, row in rows.items()]


def _step(network: Propagation, params: Any, x: Any, f: Any) -> programs.Program:
    def loss(params: Any, x: jax.Array, f: jax.Array) -> jax.Array:
        output: Any = network.apply({"params": params}, x)
        return jnp.mean((output - f) ** 2)

    def step(params: Any, x: jax.Array, f: jax.Array) -> tuple[Any, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(params, x, f)
        rate = programs.LEARNING_RATE
        return jax.tree.map(lambda w, g: w - rate * g, params, gradient), value

    return programs.carried_program(step, params, x, f)


def curves(
    name: str,
    axis: str,
    values: str,
    forms: Forms,
    fields: Fields,
    batch: int = 4,
    read: Callable[[str], Any] = whole_numbers,
) -> Suite:
    """Return a suite of networks of which one quantity differs, in several forms.

    Args:
        name: of the suite.
        axis: the quantity.
        values: it, as text.
        forms: label -> network, and its fields.
        fields: the quantity -> the fields that it decides.
        batch: images a step; 0: the quantity is the batch.
        read: reads the values.
    """
    return Suite(
        name,
        f"cost of a training step against the {axis}",
        "values",
        functools.partial(_networks, axis, forms, fields),
        (Column("form", "form"), Column(axis, "at"), TIME, MEMORY, COMPILE),
        {
            "values": {"type": read, "default": values, "help": axis},
            "batch": {"type": positive, "default": batch, "help": "images a step"},
        },
        repeats=7,
        axis=axis,
    )


DEPTH = curves(
    "depth",
    "layers",
    "56,110,218,434,866,1202",
    {
        "written out": ("hb_net", {"unroll": True}),
        "scanned": ("hb_net", {"unroll": False}),
        "scanned and remat": ("hb_net", {"unroll": False, "remat": True}),
        "reversible": ("hb_net", {"reversible": True}),
    },
    lambda layers: {"stage_sizes": (layers // 6,) * 3},
    read=read_depths,
)
BATCH = curves(
    "batch",
    "images a step",
    "1,4,16,64",
    {
        "HB-Net-56": ("hb_net56", {}),
        "HB-Net-56, reversible": ("hb_net56", {"reversible": True}),
        "AGD-Net-40": ("agd_net40", {}),
        "AGD-Net-40, remat": ("agd_net40", {"remat": True}),
    },
    lambda _: {},
    batch=0,
)
DENSE = curves(
    "dense",
    "layers of the block",
    "6,12,24,48",
    {
        "DenseNet": ("densenet", {}),
        "DenseNet, remat": ("densenet", {"remat": True}),
        "AGD-Net": ("agd_net", {}),
        "AGD-Net, remat": ("agd_net", {"remat": True}),
    },
    lambda layers: {"stage_sizes": (layers,)},
)
SIMULATION = Suite(
    "simulation",
    "cost of a training step of Table 2's networks, beside PyTorch's",
    "values",
    _structures,
    (*DEPTH.columns, THEIRS, RATIO),
    {
        "values": {"type": whole_numbers, "default": "10,20,40,80,160,320,640"},
        "batch": {"type": positive, "default": 1000, "help": "samples a step"},
    },
    repeats=7,
    beside_torch=True,
    axis="layers",
)
SUITES = (DEPTH, BATCH, DENSE, SIMULATION)
