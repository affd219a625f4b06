"""Time, memory and compile time of a training step against the depth."""

import argparse
from typing import Any

import jax
import jax.numpy as jnp

from optnet_jax.benchmarks import programs, timing
from optnet_jax.benchmarks.suite import (
    COMPILE,
    MEMORY,
    RATIO,
    THEIRS,
    TIME,
    Column,
    Row,
    Suite,
    positive,
    whole_numbers,
)
from optnet_jax.networks import create
from optnet_jax.recurrences import methods, number_of_paths
from optnet_jax.runs.program import tell
from optnet_jax.structures import FullyConnected, Propagation

SHAPE, DIM = (32, 32, 3), 100
WRITTEN_OUT = 110
"""Up to this many layers the stages are also written out: it takes long to compile."""
FORMS = {
    "written out": {"unroll": True},
    "scanned": {"unroll": False},
    "scanned and remat": {"unroll": False, "remat": True},
    "reversible": {"reversible": True},
}
"""Form of an HB-Net -> the fields that make it."""
TABLE_2 = ("gd", "hb", "agd", "agd2", "admm")
"""The methods of §5.3's simulation."""
COLUMNS = (Column("form", "form"), Column("layers", "at"), TIME, MEMORY, COMPILE)


def read_depths(text: str) -> tuple[int, ...]:
    """Read numbers of layers of an HB-Net, for argparse."""
    for layers in (depths := whole_numbers(text)):
        if layers % 6 != 2 or layers < 14:
            message = f"an HB-Net has 6 n + 2 layers, n > 1, not {layers}"
            raise argparse.ArgumentTypeError(message)
    return depths


def _networks(layers: int, options: argparse.Namespace) -> list[Row]:
    """Time a training step of each form of an HB-Net on 32×32 images, in turns."""
    made = {}
    for form, fields in FORMS.items():
        if fields.get("unroll") and layers > WRITTEN_OUT:
            continue
        tell(f"{form}, {layers} layers: compile")
        network = create("hb_net", stage_sizes=(layers // 6,) * 3, **fields)
        state, batch = programs.start(network, SHAPE, options.batch)
        made[form] = programs.training_program(network, state, batch)
    return _rows(made, layers, options, {})


def _structures(layers: int, options: argparse.Namespace) -> list[Row]:
    """Time a step of SGD of each structure of Table 2 on random pairs, in turns.

    PyTorch runs the same recurrences over the same weights, eagerly.
    """
    x, f = jax.random.normal(jax.random.key(0), (2, options.batch, DIM))
    made, weights, outputs = {}, {}, {}
    for method in map(methods.find, TABLE_2):
        network = Propagation(
            method.recurrence(),
            FullyConnected(),
            layers,
            separate_paths=number_of_paths(method.recurrence()) == 2,
        )
        params = network.init(jax.random.key(1), x)["params"]
        weights[method.key] = params["layers"]
        outputs[method.key] = network.apply({"params": params}, x)
        for form, remat in ((method.name, False), (f"{method.name}, remat", True)):
            tell(f"{form}, {layers} layers: compile")
            made[form] = _step(network.clone(remat=remat), params, x, f)
    arguments = (lambda: outputs, weights, x, f)
    with timing.torch_process("structure_runs", *arguments) as torch:
        return _rows(made, layers, options, torch)


def _rows(made: Any, layers: int, options: Any, torch: Any) -> list[Row]:
    tell(f"{layers} layers: {options.repeats} rounds")
    rows = timing.time_programs(made, options.repeats, torch)
    return [{"form": form, "at": layers, **row} for form, row in rows.items()]


def _step(network: Propagation, params: Any, x: Any, f: Any) -> programs.Program:
    def loss(params: Any, x: jax.Array, f: jax.Array) -> jax.Array:
        output: Any = network.apply({"params": params}, x)
        return jnp.mean((output - f) ** 2)

    def step(params: Any, x: jax.Array, f: jax.Array) -> tuple[Any, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(params, x, f)
        rate = programs.LEARNING_RATE
        return jax.tree.map(lambda w, g: w - rate * g, params, gradient), value

    return programs.carried_program(step, params, x, f)


DEPTH = Suite(
    "depth",
    "cost of a training step of an HB-Net against its layers",
    "values",
    _networks,
    COLUMNS,
    {
        "values": {"type": read_depths, "default": "56,110,218,434,866,1202"},
        "batch": {"type": positive, "default": 4, "help": "images a step"},
    },
    repeats=7,
)
SIMULATION = Suite(
    "simulation",
    "cost of a training step of Table 2's networks, beside PyTorch's",
    "values",
    _structures,
    (*COLUMNS, THEIRS, RATIO),
    {
        "values": {"type": whole_numbers, "default": "10,20,40,80,160,320,640"},
        "batch": {"type": positive, "default": 1000, "help": "samples a step"},
    },
    repeats=7,
    beside_torch=True,
)
SUITES = (DEPTH, SIMULATION)
