"""How fast each method, and so each tied network, reaches the minimiser of F (§5.1).

By Lemma 1 a depth is a number of iterations, so "layers needed for ε" is measured by
minimising f of (8) with a chosen condition number κ = L/μ. Theory, for the step size 1
and L ≤ 1: gradient descent contracts by 1 - μ a step, the heavy ball with
β = (1 - √μ)² and Nesterov's method with β = (1 - √μ)/(1 + √μ) by 1 - √μ: hence
O(κ log 1/ε) against O(√κ log 1/ε) layers.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from optnet_jax.configuration import Block
from optnet_jax.configuration.train import Seed
from optnet_jax.errors import InputError
from optnet_jax.kinds import Range
from optnet_jax.objectives import gradient_step, layer, objective
from optnet_jax.recurrences import Recurrence, iterate, methods
from optnet_jax.studies import kinds
from optnet_jax.studies.cells import Row
from optnet_jax.studies.markdown import number, select, table
from optnet_jax.studies.minimiser import Problem, make_problem
from optnet_jax.studies.norms import fit_growth, fit_slope
from optnet_jax.studies.panels import legend, panels
from optnet_jax.studies.study import Report, Study, StudyConfig

SHOWN = 400
"""Layers that a figure shows at most."""
DUALITY_DEPTH = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Block, path="convergence."):
    """``config.convergence``."""

    activations: Annotated[tuple[kinds.Activation, ...], kinds.SOME]
    conditions: Annotated[
        tuple[kinds.Condition, ...], kinds.SOME, kinds.printed_apart()
    ]
    dimension: Annotated[int, Range(least=2, most=4096)]
    depth: kinds.Layers
    tolerances: kinds.Fractions
    radius: kinds.Positive

    def check(self) -> None:
        """Refuse a start so near to the minimiser that rounding is as far from it."""
        least = min(self.tolerances)
        if self.radius * least < 1e-12:
            raise InputError(
                f"config.convergence.radius={self.radius:g} times the tolerance "
                f"{least:g} is as small as the rounding of float64: raise one of them"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvergenceConfig(StudyConfig):
    """The fields of ``configs/convergence.py``, which says what each is."""

    seed: Seed
    convergence: Settings


@dataclasses.dataclass(frozen=True)
class Cell:
    """A method on a problem.

    Attributes:
        activation: the row of Table 1.
        condition: κ.
        method: a key of :data:`~optnet_jax.recurrences.methods.METHODS`.
        label: its label.
        recurrence: the method at μ = 1/κ; it is run with the problem's own μ.
    """

    activation: str
    condition: float
    method: str
    label: str
    recurrence: Recurrence

    work = 1.0  # the same for all: up to 20,000 steps of small matrices

    @property
    def name(self) -> str:
        """The activation, κ and the method."""
        return f"{self.activation} {self.condition:g} {self.method}"


def plan(config: ConvergenceConfig) -> list[Cell]:
    """List every method on every problem."""
    return [
        Cell(activation, condition, m.key, m.label, m.recurrence(1 / condition))
        for activation in config.convergence.activations
        for condition in config.convergence.conditions
        for m in methods.minimisers()
    ]


def measurement(config: ConvergenceConfig) -> Callable[[Cell], Row]:
    """Return the function that measures a cell; each problem is made once."""
    study = config.convergence

    @functools.cache
    def problem_of(activation: str, condition: float) -> Problem:
        return make_problem(activation, condition, study.dimension, config.seed)

    def measure_cell(cell: Cell) -> Row:
        problem = problem_of(cell.activation, cell.condition)
        method = methods.find(cell.method)
        recurrence = method.recurrence(problem.mu)
        found = measure(
            recurrence, problem, study.depth, seed=config.seed, radius=study.radius
        )
        duality = {}
        if not method.adaptive:
            difference = duality_check(problem, recurrence, DUALITY_DEPTH)
            duality["duality_difference"] = difference
        return {
            "layers": [found.layers_needed(each) for each in study.tolerances],
            "layers_to_1e-10": found.layers_needed(1e-10),
            "fitted_rate": found.fitted_rate,
            "theoretical_rate": method.rate(problem.mu) if method.rate else None,
            **duality,
            "distance": found.distance[: SHOWN + 1].tolist(),
            "gap": found.gap[: SHOWN + 1].tolist(),
        }

    return measure_cell


@dataclasses.dataclass(frozen=True)
class Convergence:
    """What one method did on one problem.

    Attributes:
        distance: ‖x_k - x*‖ / ‖x_0 - x*‖. [depth + 1]
        gap: (F(x_k) - F*) / (F(x_0) - F*), at least 0. [depth + 1]
    """

    distance: np.ndarray
    gap: np.ndarray

    @property
    def fitted_rate(self) -> float:
        """The contraction of the distance in one step.

        Fitted over the layers that bring it from 1e-2 to 1e-8; NaN where fewer than
        three do.
        """
        # Rounding leaves about 1e-10 of the distance at a condition number of 1000.
        inside = (self.distance < 1e-2) & (self.distance > 1e-8)
        # Momentum makes the distance oscillate: a line through all, not two points.
        fitted = fit_growth(np.where(inside, self.distance, np.nan))
        return fitted if inside.sum() > 2 else math.nan

    def layers_needed(self, epsilon: float) -> int | None:
        """Return the depth from which on the distance stays below epsilon, or None.

        Args:
            epsilon: the accuracy, relative to the distance at the start.
        """
        return first_for_good(self.distance <= epsilon)


def first_for_good(reached: np.ndarray) -> int | None:
    """Return the depth from which on something stays reached, or None.

    Args:
        reached: whether it is at depth 0, 1, ..., bool [depth + 1].
    """
    missed = np.flatnonzero(~reached)
    first = int(missed[-1]) + 1 if len(missed) else 0
    return first if first < len(reached) else None


def measure(
    recurrence: Recurrence,
    problem: Problem,
    depth: int,
    *,
    seed: int = 0,
    radius: float = 1e-2,
) -> Convergence:
    """Minimise the problem with a recurrence, in float64, and record how it converges.

    Args:
        recurrence: any recurrence, a user's own included.
        problem: what to minimise.
        depth: the number of layers.
        seed: of the start's direction from the minimiser.
        radius: ‖z_0 - z*‖; small, so that the rates are those of the Hessian at z*.
    """
    direction = np.random.default_rng(seed).normal(size=len(problem.minimiser))
    z0 = problem.minimiser + radius * direction / np.linalg.norm(direction)

    # Compiled for each call: a user's recurrence may have changed since the last one.
    @jax.jit
    def run(u: jax.Array, z0: jax.Array, minimiser: jax.Array) -> tuple:
        step = gradient_step(problem.activation, u)
        zs = iterate(recurrence, step, z0, depth, trajectory=True)
        f = objective(problem.activation, u)
        return zs, f(zs), f(minimiser)

    with jax.enable_x64(True):
        found = run(problem.u, z0, problem.minimiser)
    zs, values, least = map(np.asarray, found)
    # x = U⁻¹ z: the distance is that of the network's own iterates.
    xs = np.linalg.solve(problem.u, (zs - problem.minimiser).T)
    distance = np.linalg.norm(xs, axis=0)
    gap = np.maximum(values - least, 0)
    return Convergence(distance / distance[0], gap / gap[0])


def fit_exponent(conditions: Sequence[float], layers: Sequence[float | None]) -> float:
    """Return p of layers ∝ κ^p: 1 for gradient descent, ½ for accelerated methods.

    Args:
        conditions: κ, at least two different ones.
        layers: the layers needed at each; None where the depth did not suffice.

    Returns:
        The slope in logarithms over the conditions that have a number, or NaN with
        fewer than two.
    """
    # None is NaN.
    return fit_slope(np.log(conditions), np.log(np.array(layers, float)))


def duality_check(problem: Problem, recurrence: Recurrence, depth: int) -> float:
    """Return max |U x_k - z_k| / max(1, |z_k|) of tied network and method (Lemma 1).

    In float64. Relative, because from a start as far away as this one's a problem that
    is convex near its minimiser only may send the iterates off.
    """
    with jax.enable_x64(True):
        u = jnp.asarray(problem.u)
        x0 = jnp.linspace(-1, 1, len(problem.minimiser))
        run = functools.partial(iterate, recurrence, depth=depth, trajectory=True)
        zs = run(gradient_step(problem.activation, u), u @ x0)
        xs = run(layer(problem.activation, u @ u), x0)
        return float(jnp.abs(xs @ u - zs).max() / max(1.0, float(jnp.abs(zs).max())))


def conclude(config: ConvergenceConfig, rows: list[Row]) -> Report:
    """Return layers, rates and power of κ of each label, and the check of Lemma 1."""
    del config
    summary: list[Row] = []
    for activation, label in dict.fromkeys((r["activation"], r["label"]) for r in rows):
        own = select(rows, activation=activation, label=label)
        columns = {
            name: [each[name] for each in own]
            for name in ("condition", "layers", "fitted_rate", "theoretical_rate")
        }
        # One row for each tolerance.
        layers = list(zip(*columns["layers"], strict=True))
        exponents = [fit_exponent(columns["condition"], each) for each in layers]
        place = {"activation": activation, "label": label}
        summary.append({**place, **columns, "layers": layers, "exponents": exponents})
    # None: iterates that overflow, on a problem that is convex near its minimiser only.
    differences = [
        row["duality_difference"] for row in rows if "duality_difference" in row
    ]
    largest = None if None in differences else max(differences)
    return {"methods": summary, "largest_duality_difference": largest}


def text(report: Report) -> Iterator[str]:
    """Write the report: a table for each activation."""
    study = report["config"]["convergence"]
    yield "# Layers needed to reach the minimiser of F (§5.1)"
    yield (
        f"Layers until ‖xₖ - x⋆‖ ≤ {study['tolerances'][-1]:g} ‖x₀ - x⋆‖ for good, at "
        f"most {study['depth']}; p of layers ∝ κ^p to reach each tolerance; one minus "
        "the contraction of a layer at the largest κ, fitted and in theory. n = "
        f"{study['dimension']}, float64, seed {report['config']['seed']}."
    )
    yield (
        "Largest relative |U x_k - z_k| of tied network and method "
        f"({DUALITY_DEPTH} layers): "
        f"{number(report['largest_duality_difference'], '.1e')}."
    )

    conditions = study["conditions"]
    largest = conditions.index(max(conditions))

    def layers(row: Row, i: int) -> str:
        return str(row["layers"][-1][i] or f"> {study['depth']}")

    def complement(row: Row, name: str) -> str:
        """1 - rate, of which methods that are all close to 1 differ visibly."""
        rate = row[name][largest]
        return number(None if rate is None else 1 - rate)

    columns = (
        ("method", lambda row: row["label"]),
        *(
            (f"κ = {condition:g}", lambda row, i=i: layers(row, i))
            for i, condition in enumerate(conditions)
        ),
        *(
            (f"p, {level:g}", lambda row, i=i: number(row["exponents"][i], ".2f"))
            for i, level in enumerate(study["tolerances"])
        ),
        ("1 - rate, fitted", lambda row: complement(row, "fitted_rate")),
        ("1 - rate, theory", lambda row: complement(row, "theoretical_rate")),
    )
    for activation in study["activations"]:
        yield f"## {activation}"
        yield table(select(report["methods"], activation=activation), columns)


def figures(report: Report) -> dict[str, Figure]:
    """Draw the distance to the minimiser and F against depth, for each κ."""
    study = report["config"]["convergence"]
    return {
        f"convergence_{activation}": _figure(
            activation,
            study["conditions"],
            select(report["cells"], activation=activation),
        )
        for activation in study["activations"]
    }


def _figure(activation: str, conditions: list[float], rows: list[Row]) -> Figure:
    figure, axes = panels(2, len(conditions), 4.2, 3.2, sharey="row")
    for (above, below), condition in zip(axes.T, conditions, strict=True):
        own = select(rows, condition=condition)
        for index, row in enumerate(own):
            color = f"C{index}"
            distance, gap = (np.array(row[n], float) for n in ("distance", "gap"))
            above.semilogy(distance, color=color, label=row["label"])
            # Below this F cannot be told from F* by rounding.
            below.semilogy(np.where(gap > 1e-9, gap, np.nan), color=color)
            if row["theoretical_rate"] is not None:
                theory = row["theoretical_rate"] ** np.arange(len(distance))
                above.semilogy(theory, ":", color=color)
        # Past the slowest accelerated method nothing new is seen.
        longest = max(row["layers_to_1e-10"] or 0 for row in own)
        shown = 0, min(longest or SHOWN, SHOWN)
        above.set(title=f"κ = {condition:g}", ylim=(1e-14, 10), xlim=shown)
        below.set(xlabel="layers", ylim=(1e-9, 10), xlim=shown)
    axes[0, 0].set_ylabel("‖x_k - x*‖, relative\n(dotted: theory)")
    axes[1, 0].set_ylabel("F(x_k) - F*, relative")
    figure.suptitle(f"Convergence on F, Φ = {activation}")
    return legend(figure)


STUDY = Study(
    name="convergence",
    config=ConvergenceConfig,
    plan=plan,
    measurement=measurement,
    outcome=lambda row: f"{row['layers'][-1] or 'more'} layers",
    text=text,
    figures=figures,
    conclude=conclude,
)
