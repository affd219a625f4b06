"""Table 2: MSE of five structures of 10 to 40 layers, trained on random pairs.

What the table measures. The targets are drawn independently of the inputs, so there is
nothing in them to learn: with M = mean f², the output 0 costs M, the best constant
vector about M - 1/samples. A sigmoid of a random W gives outputs far from 0 and the
gradient takes them there, so every trained network outputs almost the same vector for
every input, and its error is M + mean(output²): the table shows *how far that constant
has decayed when training stops*. It does not show that a structure approximates a
function with fewer layers, which is what §5's hypothesis is about.

The comparable number is the excess over M, which differs from draw to draw by more than
most columns differ from each other. :mod:`.simulation` has what the paper leaves open.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import jax
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from optnet_jax.configuration import Block
from optnet_jax.configuration.train import Count, Momentum, Rate
from optnet_jax.errors import InputError
from optnet_jax.kinds import Items, OneOf, Range
from optnet_jax.objectives import activation_pair
from optnet_jax.recurrences import Recurrence
from optnet_jax.recurrences.base import number_of_paths
from optnet_jax.structures import FullyConnected, Propagation
from optnet_jax.studies.cells import Row
from optnet_jax.studies.fit import members
from optnet_jax.studies.kinds import SOME, Activation, Depths, Layers, Seeds
from optnet_jax.studies.markdown import number, pivot, select, table, with_sd
from optnet_jax.studies.panels import legend, panels
from optnet_jax.studies.simulation import readings, simulate
from optnet_jax.studies.study import Report, Study, StudyConfig
from optnet_jax.studies.verdict import TESTED, against, difference

PAPER = {
    "ADMM": {10: 1.07576, 20: 1.07495, 30: 1.07665, 40: 1.07749},
    "GD": {10: 1.00644, 20: 1.00679, 30: 1.00652, 40: 1.00653},
    "HB": {10: 1.00443, 20: 1.00449, 30: 1.00455, 40: 1.00457},
    "AGD": {10: 1.00270, 20: 1.00215, 30: 1.00204, 40: 1.00213},
    "AGD2": {10: 1.00745, 20: 1.00227, 30: 1.00086, 40: 0.99964},
}
"""Table 2 as printed: the name of a method → depth → MSE."""
BASELINE = {"structure": "gd"}
"""What every other structure is compared with, where it is trained."""

Structure = Annotated[str, OneOf(lambda: tuple(readings()))]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(Block, path="task."):
    """``config.task``: the pairs that are drawn."""

    samples: Count
    dim: Count


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network(Block, path="network."):
    """``config.network``: Φ, whether a bias is added before it, and how W is drawn."""

    activation: Activation
    use_bias: bool
    init: Literal["xavier_normal", "xavier_uniform", "he_normal", "lecun_normal"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(Block, path="optimizer."):
    """``config.optimizer``: SGD."""

    learning_rate: Rate
    slow_factor: Rate
    momentum: Momentum


@dataclasses.dataclass(frozen=True, kw_only=True)
class Readout(Block, path="readout."):
    """``config.readout``: the ablation of what is read out."""

    structures: tuple[Structure, ...]
    depths: Annotated[tuple[Layers, ...], Items(distinct=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing(Block, path="timing."):
    """``config.timing``: the order of the structures against the time of training."""

    depth: Layers
    checkpoints: Annotated[tuple[Count, ...], Items(least=1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table2Config(StudyConfig):
    """The fields of ``configs/table2.py``, which says what each is."""

    seeds: Seeds
    depths: Depths
    structures: Annotated[tuple[Structure, ...], SOME]
    heavy_ball_beta: Annotated[float, Range(above=-1, below=1)]
    task: Task
    network: Network
    optimizer: Optimizer
    steps: Count
    batch_size: Count
    readout: Readout
    timing: Timing
    matmul_precision: Literal["default", "high", "highest"]

    def check(self) -> None:
        """Refuse batches that do not share the samples, and cells that come twice."""
        if self.task.samples % self.batch_size:
            raise InputError(
                f"config.batch_size={self.batch_size} must divide config.task.samples="
                f"{self.task.samples}: every sample counts the same"
            )
        twice = set(self.structures) & set(self.readout.structures)
        if twice or len(set(self.readout.structures)) < len(self.readout.structures):
            raise InputError(
                "config.structures and readout.structures must name each once, not "
                f"{(*self.structures, *self.readout.structures)}"
            )


@dataclasses.dataclass(frozen=True)
class Cell:
    """One structure at one depth.

    Attributes:
        structure: a key of :func:`~optnet_jax.studies.simulation.readings`.
        label: how tables name it.
        column: the paper's column.
        recurrence: what is trained.
        separate_paths: each path has weights of its own.
        depth: K.
        learning_rate: of SGD.
        checkpoints: the steps after which it is measured; training ends at the last.
    """

    structure: str
    label: str
    column: str
    recurrence: Recurrence
    separate_paths: bool
    depth: int
    learning_rate: float
    checkpoints: tuple[int, ...]

    @property
    def name(self) -> str:
        """The structure and its depth."""
        return f"{self.structure}_depth{self.depth}"

    @property
    def work(self) -> float:
        """Evaluations of T."""
        return number_of_paths(self.recurrence) * self.depth * self.checkpoints[-1]


def plan(config: Table2Config) -> list[Cell]:
    """List the cells of the table and of its explanation, each once, shallow first."""
    pairs = {(s, k) for s in config.structures for k in config.depths}
    pairs |= {(s, config.timing.depth) for s in config.structures}
    pairs |= {(s, k) for s in config.readout.structures for k in config.readout.depths}
    order = [*config.structures, *config.readout.structures]
    known = readings(config.heavy_ball_beta)

    def cell(structure: str, depth: int) -> Cell:
        reading = known[structure]
        times = config.timing.checkpoints if depth == config.timing.depth else ()
        slow = config.optimizer.slow_factor if reading.slow else 1.0
        return Cell(
            structure,
            reading.label,
            reading.column,
            reading.recurrence,
            reading.separate_paths,
            depth,
            config.optimizer.learning_rate * slow,
            tuple(sorted({config.steps, *times})),
        )

    cells = [cell(*pair) for pair in pairs]
    return sorted(cells, key=lambda c: (c.depth, order.index(c.structure)))


def make_network(cell: Cell, config: Table2Config) -> Propagation:
    """Build the structure of a cell: one W for each layer, as §5.3 trains it."""
    activation, _ = activation_pair(config.network.activation)
    transform = FullyConnected(
        activation=activation,
        use_bias=config.network.use_bias,
        kernel_init=getattr(nn.initializers, config.network.init)(),
    )
    return Propagation(
        recurrence=cell.recurrence,
        transform=transform,
        depth=cell.depth,
        separate_paths=cell.separate_paths,
    )


def train_cell(cell: Cell, config: Table2Config) -> Row:
    """Train one cell: all its seeds, in one jitted program.

    Returns:
        What was measured for each seed, [seeds] or [seeds][checkpoints], and ``final``,
        that after ``config.steps``.

    Raises:
        InputError: the training diverged.
    """
    one = functools.partial(
        simulate,
        make_network(cell, config),
        samples=config.task.samples,
        dim=config.task.dim,
        batch_size=config.batch_size,
        optimizer=optax.sgd(cell.learning_rate, config.optimizer.momentum or None),
        checkpoints=cell.checkpoints,
    )
    with jax.default_matmul_precision(config.matmul_precision):
        # Vectorised over the seeds it was not faster on two cores.
        record = members(one, at_once=False)(np.asarray(config.seeds))
    record = jax.device_get(record)
    if not all(np.isfinite(values).all() for values in record):
        raise InputError(
            f"{cell.label} with {cell.depth} layers diverged: lower "
            f"config.optimizer.learning_rate={config.optimizer.learning_rate}, with "
            "another --workdir"
        )
    found = {name: values.tolist() for name, values in record._asdict().items()}
    return {
        "seeds": list(config.seeds),
        **found,
        "final": _final(found, cell.checkpoints.index(config.steps)),
    }


def _final(found: Row, at: int) -> dict[str, list[float]]:
    names = ("mse", "output_power", "output_spread")
    final = {name: [seed[at] for seed in found[name]] for name in names}
    return {**final, "excess": _minus(final["mse"], found["target_power"])}


def text(report: Report) -> Iterator[str]:
    """Write the report: the paper's numbers beside ours, and what explains them."""
    config = report["config"]
    task = config["task"]
    yield "# Table 2: MSE after training on random pairs"
    yield _settings(config)
    powers, constant = (report["cells"][0][n] for n in ("target_power", "constant_mse"))
    yield (
        f"M = mean f² of the draw is {min(powers):.5f} to {max(powers):.5f} over the "
        "seeds; the best constant output has MSE - M = "
        f"{with_sd(_minus(constant, powers))}."
    )
    yield comparison_table(report)
    deviation = (2 / (task["samples"] * task["dim"])) ** 0.5
    yield (
        "Excess over M (MSE - M), mean ± standard deviation over "
        f"{len(config['seeds'])} seeds; the paper's MSE - 1. Its M is not printed and "
        f"has the standard deviation {deviation:.4f}: a difference of that size that "
        f"all rows share is its draw. - GD: paired by seed; p: {TESTED} for the "
        f"{len(report['compared'])} of this table."
    )
    yield "## Why: what is read out"
    yield readout_table(report)
    yield _readout_sentence(report)
    yield "## Why: when training stops"
    slow = ""
    if "agd2_slow" in config["structures"]:
        factor = config["optimizer"]["slow_factor"]
        slow = f" `agd2_slow` is AGD2 at {factor:g} times the rate."
    yield (
        f"Excess over M at {config['timing']['depth']} layers, mean over the seeds; "
        f"Table 2 stops at {config['steps']:,} steps.{slow}"
    )
    yield timing_table(report)


def _settings(config: Report) -> str:
    task, network, optimizer = (config[k] for k in ("task", "network", "optimizer"))
    bias = "with" if network["use_bias"] else "no"
    full = config["batch_size"] == task["samples"]
    batch = "full batch" if full else f"batch {config['batch_size']:,}"
    momentum = optimizer["momentum"]
    return (
        f"{task['samples']:,} pairs in N(0, I), dimension {task['dim']}; Φ = "
        f"{network['activation']}, one W for each layer, {bias} bias, "
        f"{network['init']}; SGD"
        f"{f' with momentum {momentum}' if momentum else ''} on the mean over samples "
        f"and dimensions, rate {optimizer['learning_rate']:g} (lower rate: "
        f"{optimizer['learning_rate'] * optimizer['slow_factor']:g}), {batch}, "
        f"{config['steps']:,} steps; β = {config['heavy_ball_beta']} for HB."
    )


def conclude(config: Table2Config, rows: list[Row]) -> Report:
    """Add the paper's table, and compare each structure with GD where both are."""
    compared = against(
        BASELINE,
        [
            ({n: row[n] for n in ("structure", "depth")}, row["final"]["excess"])
            for row in rows
            if row["structure"] in (*config.structures, *BASELINE.values())
            and row["depth"] in config.depths
        ],
    )
    paper = {name: {str(k): v for k, v in c.items()} for name, c in PAPER.items()}
    return {"paper": paper, "compared": compared}


def comparison_table(report: Report) -> str:
    """Lay out ours beside the paper's: a row for each structure."""

    def entries() -> Iterator[tuple[str, str, str]]:
        for structure, depth in itertools.product(
            report["config"]["structures"], report["config"]["depths"]
        ):
            place = {"structure": structure, "depth": depth}
            (cell,) = select(report["cells"], **place)
            paper = PAPER.get(cell["column"], {}).get(depth)
            label = cell["label"]
            yield label, f"{depth} layers", with_sd(cell["final"]["excess"])
            yield label, f"{depth}, paper", number(paper and paper - 1, ".5f")
            found = difference(report["compared"], "+.5f", **place)
            yield label, f"{depth}, - GD", found

    return pivot("structure", entries())


def readout_table(report: Report) -> str:
    """Lay out the read-out ablation: the same weights' sequence, read out otherwise."""
    rows = [
        cell
        for depth in report["config"]["readout"]["depths"]
        for name in dict.fromkeys(
            (
                *("gd", "gd_readout", "agd", "agd_readout", "agd2"),
                *report["config"]["readout"]["structures"],
            )
        )
        for cell in select(report["cells"], structure=name, depth=depth)
    ]
    columns = (
        ("structure", lambda row: row["label"]),
        ("layers", lambda row: str(row["depth"])),
        ("excess over M", lambda row: with_sd(row["final"]["excess"])),
        ("mean out²", lambda row: f"{np.mean(row['final']['output_power']):.5f}"),
        (
            "depends on input",
            lambda row: f"{np.mean(row['final']['output_spread']):.1e}",
        ),
    )
    return table(rows, columns)


def _readout_sentence(report: Report) -> str:
    agd2 = select(report["cells"], structure="agd2")
    differences = [
        _furthest(ours["final"]["mse"], theirs["final"]["mse"])
        for depth in report["config"]["readout"]["depths"]
        for ours in select(report["cells"], structure="agd_readout", depth=depth)
        for theirs in select(agd2, depth=depth)
    ]
    final = [cell["final"] for cell in report["cells"]]
    rest = max(_furthest(each["excess"], each["output_power"]) for each in final)
    words = (
        "Over all cells and seeds the excess is mean out² to within "
        f"{rest:.1e}; *depends on input* is the part of it that is variance over "
        "the samples."
    )
    if not differences:
        return words
    return (
        f"AGD with AGD2's read-out differs from AGD2 by {max(differences):.1e} at most "
        f"over the seeds: they are one network. {words}"
    )


def timing_table(report: Report) -> str:
    """Lay out the excess over M, and the order, against the training time."""
    timing, rate = report["config"]["timing"], report["config"]["optimizer"]
    cells = {
        cell["structure"]: cell
        for structure in report["config"]["structures"]
        for cell in select(report["cells"], structure=structure, depth=timing["depth"])
    }

    def excess(name: str, step: int) -> float:
        at = cells[name]["checkpoints"].index(step)
        return float(np.mean(_final(cells[name], at)["excess"]))

    columns = (
        ("rate x steps", lambda step: f"{rate['learning_rate'] * step:g}"),
        ("steps", str),
        *((n, lambda step, n=n: f"{excess(n, step):+.5f}") for n in cells),
        (
            "order of MSE",
            lambda step: " < ".join(sorted(cells, key=lambda n: excess(n, step))),
        ),
    )
    return table(timing["checkpoints"], columns)


def _minus(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [float(x - y) for x, y in zip(a, b, strict=True)]


def _furthest(a: Sequence[float], b: Sequence[float]) -> float:
    return max(map(abs, _minus(a, b)))


def figures(report: Report) -> dict[str, Figure]:
    """Draw the excess against depth, and the distance to the floor against time."""
    config = report["config"]
    rate, steps = config["optimizer"]["learning_rate"], config["steps"]
    figure, ((depth, time_),) = panels(1, 2, 6, 6)
    columns = [*PAPER, *dict.fromkeys(cell["column"] for cell in report["cells"])]
    seen: set[str] = set()
    for structure in config["structures"]:
        cells = select(report["cells"], structure=structure)
        column = cells[0]["column"]
        color = f"C{columns.index(column)}"
        # A column's second reading is dashed.
        line = "--" if column in seen else "-"
        style = {"color": color, "linestyle": line, "marker": "o", "markersize": 4}
        if column in PAPER and column not in seen:
            # The paper's M is not printed; its expectation is 1.
            excess = [mse - 1 for mse in PAPER[column].values()]
            label = f"paper, {column}: MSE - 1"
            depth.plot([*PAPER[column]], excess, "x", ms=9, mew=2, c=color, label=label)
        seen.add(column)
        excess = np.array(
            [select(cells, depth=k)[0]["final"]["excess"] for k in config["depths"]]
        )
        spread = excess.std(1, ddof=1) if len(config["seeds"]) > 1 else None
        bars = {**style, "capsize": 3, "label": cells[0]["label"]}
        depth.errorbar(config["depths"], excess.mean(1), spread, **bars)
        (cell,) = select(cells, depth=config["timing"]["depth"])
        floor = np.array(cell["constant_mse"])[:, None]
        distance = (np.array(cell["mse"]) - floor).mean(0)
        # Below this float32 means of numbers near 1 say nothing.
        distance = np.maximum(distance, 1e-7)
        time_.plot(rate * np.array(cell["checkpoints"]), distance, **style)
    depth.set_yscale("symlog", linthresh=1e-3)
    depth.set_ylim(bottom=-1e-3)
    depth.axhline(0, color="black", linewidth=0.6)
    depth.set(
        xticks=config["depths"],
        xlabel="layers",
        ylabel="MSE - M (linear within ±0.001)",
        title=f"after {steps:,} steps",
    )
    time_.axvline(rate * steps, color="black", linewidth=0.6, linestyle=":")
    time_.set(
        xscale="log",
        yscale="log",
        xlabel="learning rate x steps (dotted: where Table 2 stops)",
        ylabel="MSE - MSE of the best constant output",
        title=f"{config['timing']['depth']} layers, against the training time",
    )
    return {"table2": legend(figure)}


STUDY = Study(
    name="table2",
    config=Table2Config,
    plan=plan,
    measurement=lambda config: functools.partial(train_cell, config=config),
    outcome=lambda row: f"MSE {with_sd(row['final']['mse'])}",
    text=text,
    figures=figures,
    conclude=conclude,
)
