"""What Table 2 costs at the paper's size: full batches, 1,000 epochs."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from typing import Any

import jax

from optnet_jax.benchmarks.activity import begin
from optnet_jax.benchmarks.simulation import STRUCTURES
from optnet_jax.benchmarks.suite import Row, Suite, number, whole_numbers
from optnet_jax.benchmarks.timing import Spread, take_turns, timed
from optnet_jax.configs import table2
from optnet_jax.errors import InputError
from optnet_jax.studies.simulation import simulate
from optnet_jax.studies.table2 import (
    Cell,
    Table2Config,
    make_network,
    make_training,
    plan,
)
from optnet_jax.studies.tables import markdown_table


class Table2(Suite):
    """Each cell of ``configs/table2.py:full``, from a few of its training steps.

    Every step of a cell does the same work, so that its cost is estimated by the
    difference of a run of 1 + n steps and of one step, times the config's steps.
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add how much is timed, and the size of the task."""
        parser.add_argument("--steps", type=int, default=4, help="timed, of each cell")
        parser.add_argument("--repeats", type=int, default=3, help="timed rounds")
        parser.add_argument("--samples", type=int, default=10_000)
        parser.add_argument("--depths", default="10,20,30,40")

    def run(self, options: argparse.Namespace) -> list[Row]:
        """See :meth:`Suite.run`."""
        if min(options.steps, options.repeats, options.samples) < 1:
            raise InputError("--steps, --repeats and --samples must be positive")
        config = table2.get_config("full")
        config.depths = whole_numbers(options.depths)
        config.task.samples = config.batch_size = options.samples
        config = Table2Config.of(config)
        cells = [cell for cell in plan(config) if cell.structure in config.structures]
        cells = [cell for cell in cells if cell.depth in config.depths]
        return [_measure(cell, config, options) for cell in cells]

    def markdown(self, rows: list[Row]) -> str:
        """Lay out the seconds of each cell and the sums."""
        depths = sorted({row["depth"] for row in rows})
        seconds = {(row["label"], row["depth"]): row["cell_seconds"] for row in rows}
        labels = list(dict.fromkeys(row["label"] for row in rows))
        lines = [
            [label, *(number(seconds[label, depth]) for depth in depths)]
            for label in labels
        ]
        head = ["structure: seconds of a cell", *(f"{d} layers" for d in depths)]
        five = sum(
            row["cell_seconds"]
            for row in rows
            if row["structure"] in STRUCTURES.values()
        )
        whole = sum(row["cell_seconds"] * row["seeds"] for row in rows)
        return (
            f"{markdown_table(head, lines)}\n\n"
            f"The paper's five structures, one seed: {number(five, 1 / 60)} minutes "
            f"of one core, {number(five, 1 / 120)} on two. All {len(labels)} rows with "
            f"the config's {rows[0]['seeds']} seeds: {number(whole, 1 / 3600)} hours "
            f"of one core."
        )


def _measure(cell: Cell, config: Table2Config, options: argparse.Namespace) -> Row:
    begin(f"{cell.label}, {cell.depth} layers")
    short, long = (
        _program(dataclasses.replace(cell, checkpoints=(steps,)), config)
        for steps in (1, 1 + options.steps)
    )
    runs = {"short": timed(short), "long": timed(long)}
    times = take_turns(runs, options.repeats, warm_up=1)
    pairs = zip(times["short"], times["long"], strict=True)
    step = Spread.of([(b - a) / options.steps for a, b in pairs])
    return {
        "structure": cell.structure,
        "label": cell.label,
        "depth": cell.depth,
        "seeds": len(config.seeds),
        "step": dataclasses.asdict(step),
        "cell_seconds": step.median * config.steps,
    }


def _program(cell: Cell, config: Table2Config) -> Any:
    """One seed of a cell, compiled: what the study maps over its seeds."""
    run = functools.partial(
        simulate, make_network(cell, config), make_training(cell, config)
    )
    with jax.default_matmul_precision(config.matmul_precision):
        compiled = jax.jit(run).lower(0).compile()
    return lambda: jax.block_until_ready(compiled(0))


SUITE = Table2()
