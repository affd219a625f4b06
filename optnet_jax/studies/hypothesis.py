"""Does a faster method need fewer layers (§5), where there is something to learn?

The simulation of §5.3 cannot answer this: its targets are independent of the inputs
(see :mod:`optnet_jax.studies.table2`). Here a network has to map an input to its own
argmin F; a method's advantage with the true W is known; and what is asked is whether it
survives training from scratch; :mod:`.verdict` decides.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from optnet_jax.configuration import Block
from optnet_jax.configuration.train import Count
from optnet_jax.errors import InputError
from optnet_jax.kinds import OneOf, Range
from optnet_jax.recurrences import Recurrence, methods
from optnet_jax.recurrences.base import number_of_paths
from optnet_jax.studies import kinds, learnable, verdict
from optnet_jax.studies.cells import Row
from optnet_jax.studies.comparison import student_interval
from optnet_jax.studies.fit import in_parts, tune
from optnet_jax.studies.markdown import bullets, number, pivot, select, table
from optnet_jax.studies.panels import legend, panels
from optnet_jax.studies.study import Report, Study, StudyConfig

Label = Annotated[str, OneOf(lambda: tuple(m.label for m in methods.minimisers()))]
BASELINE = methods.find("gd").label
"""Gradient descent: what every other structure is compared with."""
TRUE = "true W"
"""The tying of a cell that is not trained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples(Block, path="hypothesis.samples."):
    """``config.hypothesis.samples``: sizes of the three splits of a problem."""

    train: Count
    validation: Count
    test: Count


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Block, path="hypothesis."):
    """``config.hypothesis``."""

    methods: Annotated[tuple[Label, ...], kinds.SOME]
    depths: kinds.Depths
    tyings: Annotated[tuple[Literal["untied", "tied"], ...], kinds.SOME]
    activation: learnable.Activation
    condition: kinds.Condition
    dimension: Annotated[int, Range(least=2, most=4096)]
    samples: Samples
    steps: Count
    batch_size: Count
    learning_rates: kinds.Rates
    weight_scales: kinds.Factors
    tuning_seeds: kinds.Seeds
    seeds: kinds.Seeds
    tolerances: kinds.Factors
    untrained_depth: kinds.Layers

    @property
    def task(self) -> learnable.Task:
        """What the networks learn."""
        return learnable.Task(self.activation, self.condition, self.dimension)

    def check(self) -> None:
        """Refuse a study that compares with nothing, or chooses on what it reports."""
        if BASELINE not in self.methods:
            raise InputError(
                f"config.hypothesis.methods lacks the baseline, {BASELINE!r}: add it"
            )
        if set(self.seeds) & set(self.tuning_seeds):
            raise InputError(
                "config.hypothesis.tuning_seeds must differ from seeds: a rate that is "
                "tuned on what is reported favours whatever is tuned"
            )
        if self.untrained_depth < max(self.depths):
            raise InputError(
                f"config.hypothesis.untrained_depth={self.untrained_depth} must be at "
                f"least the deepest network's {max(self.depths)}, to compare with it"
            )
        for name, size in self.samples.as_mapping().items():
            if size < self.batch_size:
                raise InputError(
                    f"config.hypothesis.samples.{name}={size} must be at least "
                    f"batch_size={self.batch_size}"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HypothesisConfig(StudyConfig):
    """The fields of ``configs/hypothesis.py``, which says what each is."""

    hypothesis: Settings


@dataclasses.dataclass(frozen=True)
class Cell:
    """One structure at one depth.

    Attributes:
        label: of the method.
        depth: K.
        tying: ``"untied"`` (15), ``"tied"`` (§5.1), or ``"true W"``: not trained.
        recurrence: the method.
    """

    label: str
    depth: int
    tying: str
    recurrence: Recurrence

    @property
    def name(self) -> str:
        """The tying, the method and its depth."""
        return f"{self.tying} {self.label} depth{self.depth}"

    @property
    def work(self) -> float:
        """Layers that are trained."""
        trained = self.depth if self.tying != TRUE else 1
        return trained * number_of_paths(self.recurrence)


def plan(config: HypothesisConfig) -> list[Cell]:
    """List the methods with the true W, then the networks, shallow ones first."""
    study = config.hypothesis
    places = [
        (study.untrained_depth, TRUE),
        *((k, tying) for tying in study.tyings for k in sorted(study.depths)),
    ]
    mu = 1 / study.condition
    return [
        Cell(label, depth, tying, methods.find(label).recurrence(mu))
        for depth, tying in places
        for label in study.methods
    ]


def measurement(config: HypothesisConfig) -> Callable[[Cell], Row]:
    """Return the function that measures a cell; the problems are drawn once."""
    problems, task = draw_all(config), config.hypothesis.task
    largest = max(learnable.residual(task, each) for each in problems.values())

    def measure(cell: Cell) -> Row:
        run = run_untrained if cell.tying == TRUE else train_cell
        return {**run(cell, config, problems), "largest_target_residual": largest}

    return measure


def draw_all(config: HypothesisConfig) -> dict[int, learnable.Problem]:
    """Draw the problem of every seed, those for tuning included."""
    study = config.hypothesis
    sizes = (study.samples.train, study.samples.validation, study.samples.test)
    seeds = (*study.seeds, *study.tuning_seeds)
    return {seed: learnable.draw(study.task, sizes, seed) for seed in seeds}


TRAINING, VALIDATION, TEST = range(3)


def split(problems: Sequence[learnable.Problem], which: int) -> learnable.Split:
    """Return one split of several problems, float32, with a leading axis of them."""
    arrays = zip(*(problem.splits[which] for problem in problems), strict=True)
    return learnable.Split(*(jnp.asarray(np.stack(a), jnp.float32) for a in arrays))


def train_cell(
    cell: Cell, config: HypothesisConfig, problems: dict[int, learnable.Problem]
) -> Row:
    """Tune the rate and the initial weights on the tuning seeds, then train the seeds.

    The tuning seeds have problems of their own, and are measured on their validation
    split; nothing that is reported has been seen by the choice.

    Returns:
        What was chosen and what chose it, [scales][rates], and the outcome by seed.
    """
    study = config.hypothesis
    program = learnable.make_program(
        study.task,
        cell.recurrence,
        cell.depth,
        cell.tying == "tied",
        study.steps,
        study.batch_size,
    )

    def run(members: Sequence[tuple], which: int) -> learnable.Outcome:
        def part(scales: Any, rates: Any, seeds: Any) -> learnable.Outcome:
            chosen = [problems[int(seed)] for seed in seeds]
            splits = split(chosen, TRAINING), split(chosen, which)
            return program(*splits, seeds, rates, scales)

        # As many at once as there are seeds: one program serves both.
        return in_parts(part, members, len(study.seeds))

    grid = study.weight_scales, study.learning_rates
    (scale, rate), errors = tune(
        lambda tried: run(tried, VALIDATION).error, grid, study.tuning_seeds, _mean_log
    )
    final = run([(scale, rate, seed) for seed in study.seeds], TEST)
    return {
        "learning_rate": rate,
        "weight_scale": scale,
        "validation_error": np.exp(_mean_log(errors)).tolist(),
        "seeds": list(study.seeds),
        "error": final.error.tolist(),
        "diverged": int((~final.finite).sum()),
    }


def _mean_log(errors: np.ndarray) -> np.ndarray:
    # Of the logarithms: one seed on which it diverges counts against it.
    return np.log(errors).mean(-1)


def run_untrained(
    cell: Cell, config: HypothesisConfig, problems: dict[int, learnable.Problem]
) -> Row:
    """Run the method itself, with the true W, on the test inputs.

    Returns:
        The relative error after 0..depth steps, by seed.
    """
    task = config.hypothesis.task

    @jax.vmap
    def errors(w: jax.Array, test: learnable.Split) -> jax.Array:
        xs = task.propagate(
            cell.recurrence, w, test.inputs, cell.depth, trajectory=True
        )
        squares = jnp.mean((xs - test.targets[None]) ** 2, axis=(1, 2))
        return learnable.capped(squares / learnable.scale(test.targets))

    chosen = [problems[seed] for seed in config.hypothesis.seeds]
    w = jnp.asarray(np.stack([p.w for p in chosen]), jnp.float32)
    return {"error_by_depth": np.asarray(errors(w, split(chosen, TEST))).tolist()}


def errors_by_depth(report: Report, label: str, tying: str) -> list[dict[int, float]]:
    """Return depth -> relative test error of a structure, for each seed.

    With the true W a depth is a number of iterations, from 1 on.
    """
    rows = select(report["cells"], label=label, tying=tying)
    if tying == TRUE:
        return [dict(enumerate(errors[1:], 1)) for errors in rows[0]["error_by_depth"]]
    by_depth = {row["depth"]: row["error"] for row in rows}
    seeds = range(len(rows[0]["seeds"]))
    return [{k: errors[i] for k, errors in by_depth.items()} for i in seeds]


def conclude(config: HypothesisConfig, rows: list[Row]) -> Report:
    """Compare each method and each network with gradient descent, and judge.

    All comparisons are corrected together.
    """
    study, report = config.hypothesis, {"cells": rows}
    values: list[tuple[Row, list[float]]] = []
    for tying, label in itertools.product((TRUE, *study.tyings), study.methods):
        place = {"tying": tying, "label": label}
        errors = errors_by_depth(report, label, tying)
        layers = [verdict.doublings(by_depth, study.tolerances) for by_depth in errors]
        values.append(({**place, "what": "layers"}, layers))
        if tying != TRUE:
            deepest = [math.log10(by_depth[max(study.depths)]) for by_depth in errors]
            values.append(({**place, "what": "error"}, deepest))
    compared = verdict.against({"label": BASELINE}, values)
    method, *networks = (
        verdict.directions(compared, "label", tying=tying, what="layers")
        for tying in (TRUE, *study.tyings)
    )
    return {
        "largest_target_residual": max(row["largest_target_residual"] for row in rows),
        "compared": compared,
        "verdicts": {
            tying: verdict.judge(method, network)
            for tying, network in zip(study.tyings, networks, strict=True)
        },
    }


def mean_and_band(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean and its 95 % interval (Student's, of the logarithms).

    Args:
        values: above 0, one for each seed.
    """
    logs = np.log10(np.maximum(values, 1e-12)).tolist()
    low, high = student_interval(logs) or (logs[0], logs[0])
    return 10 ** float(np.mean(logs)), 10**low, 10**high


def text(report: Report) -> Iterator[str]:
    """Write the report."""
    study = report["config"]["hypothesis"]
    yield "# Do networks of faster methods need fewer layers?"
    yield bullets({f"{t} weights": said for t, said in report["verdicts"].items()})
    yield (
        f"Each verdict is of layers, over {len(study['seeds'])} seeds, at 5 % by "
        f"{verdict.TESTED} for the {len(report['compared'])} comparisons of this "
        "page. What could overturn it and was varied: the rate "
        f"({_listed(study['learning_rates'])}) and the scale of the initial weights "
        f"({_listed(study['weight_scales'])} times Xavier's), chosen for each network "
        f"at each depth on the validation splits of {len(study['tuning_seeds'])} seeds "
        "of their own."
    )
    yield (
        f"Input b, target argmin F_b: x* = Φ(W x* + b), Φ = {study['activation']}, "
        f"κ = {study['condition']:g}, n = {study['dimension']}; largest residual of a "
        f"target {report['largest_target_residual']:.0e}. Each network: "
        f"{study['steps']} steps of Adam (cosine decay) on batches of "
        f"{study['batch_size']}. Errors: squared, on {study['samples']['test']} test "
        "inputs, relative to the variance of the targets (the best constant has 1); "
        "geometric mean over the seeds, each with its own W, inputs, initial weights."
    )
    deepest = max(study["depths"])
    for tying in study["tyings"]:
        yield f"## {tying.capitalize()} weights"
        yield pivot("error", _errors(report, tying))
        yield (
            "Test error @ rate, scale of the initial weights. *: either is at the edge "
            "of those tried; †: seeds that diverged."
        )
        yield pivot("initial weights", _scales(report, tying, deepest))
        yield (
            f"At {deepest} layers by the scale, at the rate that is best for it, on "
            "the validation splits that both are chosen on."
        )
        yield pivot("smallest depth, median", _layers(report, tying))
        yield "(n): only n seeds reach the error at any depth that was tried."
        yield _comparison_table(report, tying, deepest)
        yield (
            "Iterations of the method and layers of the network in doublings: -1 is "
            "half of GD's. p: corrected. Detectable: the difference that so many seeds "
            "find four times in five, not corrected."
        )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


Entries = Iterator[tuple[str, str, str]]


def _errors(report: Report, tying: str) -> Entries:
    study = report["config"]["hypothesis"]
    rates, scales = study["learning_rates"], study["weight_scales"]
    for label in study["methods"]:
        errors = errors_by_depth(report, label, TRUE)
        for row in select(report["cells"], label=label, tying=tying):
            depth, rate, start = row["depth"], row["learning_rate"], row["weight_scale"]
            ends = {min(rates), max(rates)}, {min(scales), max(scales)}
            edge = "*" if rate in ends[0] or start in ends[1] else ""
            lost = f" †{row['diverged']}" if row["diverged"] else ""
            mean = mean_and_band(row["error"])[0]
            shown = f"{mean:.1e} @ {rate:g}, {start:g}{edge}{lost}"
            yield f"{label}, trained", f"{depth} layers", shown
            mean = mean_and_band([by_depth[depth] for by_depth in errors])[0]
            yield f"{label}, true W", f"{depth} layers", f"{mean:.1e}"


def _scales(report: Report, tying: str, depth: int) -> Entries:
    scales = report["config"]["hypothesis"]["weight_scales"]
    for row in select(report["cells"], tying=tying, depth=depth):
        for each, by_rate in zip(scales, row["validation_error"], strict=True):
            yield row["label"], f"{each:g} x Xavier", f"{min(by_rate):.1e}"


def _layers(report: Report, tying: str) -> Entries:
    study = report["config"]["hypothesis"]
    for label, tolerance, (kind, title) in itertools.product(
        study["methods"], study["tolerances"], ((tying, "trained"), (TRUE, TRUE))
    ):
        errors = errors_by_depth(report, label, kind)
        yield label, f"≤ {tolerance:g}, {title}", _needed(errors, tolerance)


def _needed(errors: Sequence[dict[int, float]], tolerance: float) -> str:
    found = [verdict.layers_needed(by_depth, tolerance) for by_depth in errors]
    deepest = max(errors[0])
    median = float(np.median([n or 2 * deepest for n in found]))
    reached = sum(n is not None for n in found)
    words = f"{median:g}" if median <= deepest else f"> {deepest}"
    return words if reached == len(found) else f"{words} ({reached})"


def _comparison_table(report: Report, tying: str, deepest: int) -> str:
    method, layers, error = (
        {r["label"]: r for r in select(report["compared"], tying=kind, what=what)}
        for kind, what in ((TRUE, "layers"), (tying, "layers"), (tying, "error"))
    )
    columns = (
        ("against GD", lambda m: m),
        (
            "method",
            lambda m: (
                f"{method[m]['mean']:+.2f} ({verdict.direction(method[m]['verdict'])})"
            ),
        ),
        ("network", lambda m: _with_interval(layers[m])),
        ("detectable", lambda m: number(layers[m]["detectable"])),
        ("p", lambda m: number(layers[m]["p_corrected"])),
        ("layers", lambda m: verdict.direction(layers[m]["verdict"])),
        (f"error, {deepest} layers", lambda m: f"x {10 ** error[m]['mean']:.2g}"),
        ("p", lambda m: number(error[m]["p_corrected"])),
        ("error", lambda m: error[m]["verdict"]),
    )
    return table(method, columns)


def _with_interval(entry: dict[str, Any]) -> str:
    if entry["interval"] is None:
        return f"{entry['mean']:+.2f}"
    low, high = entry["interval"]
    return f"{entry['mean']:+.2f} ({low:+.2f} to {high:+.2f})"


def figures(report: Report) -> dict[str, Figure]:
    """Draw one panel for the methods themselves and one for each tying.

    Lines are geometric means over the seeds, bands their 95 % intervals.
    """
    study = report["config"]["hypothesis"]
    kinds, depths = [TRUE, *study["tyings"]], sorted(study["depths"])
    figure, (axes,) = panels(1, len(kinds), 4.2, 4.4, sharey=True)
    for axis, tying in zip(axes, kinds, strict=True):
        for index, label in enumerate(study["methods"]):
            errors = errors_by_depth(report, label, tying)
            bands = np.array([mean_and_band([e[k] for e in errors]) for k in depths])
            style = {"color": f"C{index}", "label": label}
            axis.plot(depths, bands[:, 0], marker="o", markersize=4, **style)
            axis.fill_between(depths, *bands[:, 1:].T, color=f"C{index}", alpha=0.2)
        axis.set(xscale="log", yscale="log", xlabel="layers")
        axis.set_xticks(depths, [str(depth) for depth in depths])
        axis.minorticks_off()
        axis.set_title(f"the methods, {TRUE}" if tying == TRUE else f"trained, {tying}")
        for tolerance in study["tolerances"]:
            axis.axhline(tolerance, color="gray", linewidth=0.5, linestyle=":")
        axis.axhline(1, color="gray", linewidth=0.8)
    axes[0].set_ylabel("test error relative to the best constant's")
    return {"hypothesis": legend(figure, columns=len(study["methods"]))}


def outcome(row: Row) -> str:
    """Say what a row has in a line."""
    if row["tying"] == TRUE:
        last = [errors[-1] for errors in row["error_by_depth"]]
        return f"error {mean_and_band(last)[0]:.1e}"
    return (
        f"error {mean_and_band(row['error'])[0]:.1e} at rate {row['learning_rate']:g}, "
        f"initial weights x {row['weight_scale']:g}"
    )


STUDY = Study(
    name="hypothesis",
    config=HypothesisConfig,
    plan=plan,
    measurement=measurement,
    outcome=outcome,
    text=text,
    figures=figures,
    conclude=conclude,
)
