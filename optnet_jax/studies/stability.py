"""What a structure does to signals and gradients: roots, norms, training at depth.

Three parts: the characteristic roots of each recurrence (:mod:`.roots`), the norms in
structures that are not trained (:mod:`.norms`), and a trial of whether HB-Net trains
more stably than ResNet at depth, as §7.2 says (:mod:`.trial`).
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from matplotlib.figure import Figure

from optnet_jax import data
from optnet_jax.configuration import Block
from optnet_jax.configuration.train import Count, Data, Rate, Seed
from optnet_jax.errors import InputError
from optnet_jax.kinds import Items, Range
from optnet_jax.objectives import activation_pair
from optnet_jax.recurrences import Recurrence, methods
from optnet_jax.structures import FullyConnected, Propagation
from optnet_jax.studies import trial as trials
from optnet_jax.studies.cells import Row
from optnet_jax.studies.kinds import (
    Activation,
    Depths,
    Layers,
    Positive,
    Seeds,
)
from optnet_jax.studies.norms import measure
from optnet_jax.studies.roots import (
    characteristic_roots,
    radius_over_slopes,
)
from optnet_jax.studies.study import Report, Study, StudyConfig, select
from optnet_jax.studies.tables import number, table
from optnet_jax.studies.trial import (
    HB_NET,
    compare_all,
    count_failed,
    judge,
    largest_rates,
    median_loss,
)

Width = Annotated[int, Range(least=1, most=2**16)]
ROOTS_DEPTH = 100
"""The step whose roots are taken: (3) is near its limit there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Norms(Block, path="stability.norms."):
    """``config.stability.norms``: structures of fully connected layers, He normal.

    Attributes:
        depth: Layers.
        width: Features.
        batch: Samples.
        activation: Φ.
    """

    depth: Layers
    width: Width
    batch: Count
    activation: Activation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stability(Block, path="stability."):
    """``config.stability``.

    Attributes:
        norms: Where norms are measured.
        tolerance: A layer may amplify by 1 + tolerance before it is warned of.
    """

    norms: Norms
    tolerance: Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial(Block, path="trial."):
    """``config.trial``: see :mod:`optnet_jax.studies.trial`.

    Attributes:
        depths: Weight layers.
        width: Features.
        normalize: With and without batch normalisation.
        learning_rates: Those that are tried.
        seeds: Those that each is tried with.
        steps: Of training.
        failed_above: Mean loss of the last tenth of the steps above which a run has
            failed: a guess has log 10 = 2.30.
    """

    depths: Depths
    width: Width
    normalize: Annotated[tuple[bool, ...], Items(least=1, distinct=True)]
    learning_rates: Annotated[tuple[Rate, ...], Items(least=1, distinct=True)]
    seeds: Seeds
    steps: Count
    failed_above: Positive

    def check(self) -> None:
        """Refuse a depth that is no 2 n + 2."""
        for depth in self.depths:
            if depth < 4 or depth % 2:
                raise InputError(
                    f"config.trial.depths has {depth}: two layers a unit and two "
                    "around them make an even number of at least 4"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StabilityConfig(StudyConfig):
    """The fields of ``configs/stability.py``.

    Attributes:
        seed: Draws weights, inputs and the order of the images.
        stability: Roots and norms.
        trial: Training at depth.
        data: Its images.
    """

    experiment: Literal["stability"] = "stability"
    seed: Seed
    stability: Stability
    trial: Trial
    data: Data


@dataclasses.dataclass(frozen=True)
class Cell:
    """A structure in one of the parts.

    Attributes:
        part: ``"roots"``, ``"norms"`` or ``"trial"``.
        label: how tables name the structure.
        recurrence: it.
        depth: steps or weight layers.
        normalize: of the trial: with batch normalisation.
    """

    part: str
    label: str
    recurrence: Recurrence
    depth: int
    normalize: bool = False

    @property
    def name(self) -> str:
        """The part, the structure and its depth."""
        kind = "normalized " if self.normalize else ""
        return f"{self.part} {kind}{self.label} depth{self.depth}"

    @property
    def work(self) -> float:
        """Weight layers that are trained; the other parts take seconds."""
        return self.depth if self.part == "trial" else 1.0


def plan(config: StabilityConfig) -> list[Cell]:
    """List the roots and norms of every method that needs no μ, and the trial."""
    fixed = {m.label: m.recurrence() for m in methods.METHODS if not m.tuned}
    cells = [
        Cell("roots", *item, ROOTS_DEPTH)
        for item in fixed.items()
        if not methods.find(item[0]).adaptive
    ]
    depth = config.stability.norms.depth
    cells += [Cell("norms", *item, depth) for item in fixed.items()]
    return cells + [
        Cell("trial", *item, depth, normalize)
        for depth in config.trial.depths
        for normalize in config.trial.normalize
        for item in trials.STRUCTURES.items()
    ]


def measurement(config: StabilityConfig) -> Callable[[Cell], Row]:
    """Return the function that measures a cell; the images are loaded once."""
    parts: dict[str, Callable[[Cell], Row]] = {
        "roots": measure_roots,
        "norms": functools.partial(measure_norms, config=config),
        "trial": functools.partial(
            run_trial, config=config, batches=load_batches(config)
        ),
    }
    return lambda cell: parts[cell.part](cell)


def measure_roots(cell: Cell) -> Row:
    """Return the roots at T = 0, and the spectral radius for T(x) = λ x."""
    roots = characteristic_roots(cell.recurrence, depth=cell.depth)
    slopes = np.linspace(-1, 1, 201)
    radii = radius_over_slopes(cell.recurrence, slopes, cell.depth)
    return {
        "radius": roots.radius,
        "angle": roots.angle,
        "period": roots.period,
        "slopes": slopes.tolist(),
        "radius_by_slope": radii.tolist(),
        "largest_radius": float(radii.max()),
    }


def measure_norms(cell: Cell, config: StabilityConfig) -> Row:
    """Return the norms in a structure of random weights, and their warnings."""
    settings = config.stability.norms
    activation, _ = activation_pair(settings.activation)
    module = Propagation(
        cell.recurrence,
        FullyConnected(activation, kernel_init=nn.initializers.he_normal()),
        cell.depth,
        unroll=True,
    )
    keys = jax.random.split(jax.random.key(config.seed), 3)
    x0 = jax.random.normal(keys[0], (settings.batch, settings.width))
    v = jax.random.normal(keys[1], x0.shape)
    found = measure(
        module, module.init(keys[2], x0), x0, lambda output: (v * output).sum()
    )
    return {
        "signal": found.signal.tolist(),
        "gradient": found.gradient.tolist(),
        "signal_growth": found.signal_growth,
        "gradient_growth": found.gradient_growth,
        "warnings": found.warnings(cell.label, config.stability.tolerance),
    }


def load_batches(config: StabilityConfig) -> tuple[jax.Array, jax.Array]:
    """Return the batch of every step: images [steps, B, pixels], labels [steps, B]."""
    dataset = data.load(config.data, seed=config.seed)
    batches = itertools.islice(dataset.train_batches(), config.trial.steps)
    images, labels = zip(*((b["image"], b["label"]) for b in batches), strict=True)
    flat = np.stack([np.asarray(x).reshape(len(x), -1) for x in images])
    return jnp.asarray(flat), jnp.asarray(np.stack(labels))


def run_trial(
    cell: Cell, config: StabilityConfig, batches: tuple[jax.Array, jax.Array]
) -> Row:
    """Train every seed at every rate.

    Returns:
        The final loss (the mean of the last tenth of the steps), whether it failed, and
        the gradient's norm at the first step and at its largest, each [rates][seeds].
    """
    settings = config.trial
    trial = trials.Trial(cell.recurrence, cell.depth, settings.width, cell.normalize)
    seeds, rates = jnp.asarray(settings.seeds), jnp.asarray(settings.learning_rates)
    loss, norm = map(np.asarray, trials.run(trial, *batches, seeds, rates))
    final = loss[..., -max(1, settings.steps // 10) :].mean(-1)
    return {
        "final_loss": final.tolist(),
        "failed": (~(final <= settings.failed_above)).tolist(),
        "diverged": (~np.isfinite(loss).all(-1)).tolist(),
        "first_gradient_norm": norm[..., 0].tolist(),
        "largest_gradient_norm": norm.max(-1).tolist(),
    }


def conclude(config: StabilityConfig, rows: list[Row]) -> Report:
    """Compare in the trial, and judge it with and without normalisation."""
    trial = select(rows, part="trial")
    compared = compare_all(trial)
    return {
        "compared": compared,
        "verdicts": {
            _kind(normalize): judge(trial, compared, normalize)
            for normalize in config.trial.normalize
        },
    }


def _kind(normalize: bool) -> str:
    return "with batch normalisation" if normalize else "without normalisation"


def text(report: Report) -> Iterator[str]:
    """Write the report."""
    settings = report["config"]["trial"]
    rates = settings["learning_rates"]
    layers = report["config"]["stability"]["norms"]
    norms = select(report["cells"], part="norms")
    yield "# What a structure does to signals and gradients"
    yield "\n".join(
        f"- HB-Net more stable than ResNet at depth, {kind}: **{sentence}**."
        for kind, sentence in report["verdicts"].items()
    )
    yield "## Characteristic roots at T = 0"
    yield table(select(report["cells"], part="roots"), ROOT_COLUMNS)
    yield (
        f"## Norms: {layers['depth']} layers of {layers['width']}, Φ = "
        f"{layers['activation']}, He normal, not trained"
    )
    yield table(norms, NORM_COLUMNS)
    warnings = [f"- {line}" for row in norms for line in row["warnings"]]
    yield "\n".join(warnings) or "No structure amplifies beyond the tolerance."
    yield "## Training at depth"
    yield (
        f"Dense units of §6.1, width {settings['width']}, {settings['steps']} steps on "
        f"digits, SGD with momentum 0.9, no warm-up, "
        f"{len(rates)} rates from {min(rates):g} to {max(rates):g}, "
        f"{len(settings['seeds'])} seeds. A run has failed if its loss at the end is "
        f"above {settings['failed_above']:g} or not finite. HB-Net is judged against "
        "ResNet with the same activation, by at how many rates a seed fails: exact "
        "sign-flip tests at 5 %, corrected by Holm's method for all "
        f"{len(report['compared'])}."
    )
    for normalize in settings["normalize"]:
        yield f"### {_kind(normalize).capitalize()}"
        yield _trial_table(report, normalize)
    yield (
        f"{report['device']}, JAX {report['versions']['jax']}, {report['finished']}; "
        f"{report['wall_seconds']:.0f} s of cells."
    )


ROOT_COLUMNS = (
    ("recurrence", lambda row: row["label"]),
    ("modulus", lambda row: f"{row['radius']:.4g}"),
    ("angle", lambda row: f"{row['angle']:.4g}°"),
    ("period", lambda row: number(row["period"], ".4g")),
    ("largest modulus, |λ| ≤ 1", lambda row: f"{row['largest_radius']:.4g}"),
)
NORM_COLUMNS = (
    ("structure", lambda row: row["label"]),
    ("signal, last / first", lambda row: _ratio(row["signal"][-1], row["signal"][0])),
    ("a layer", lambda row: number(row["signal_growth"], ".3f")),
    (
        "gradient, first / last",
        lambda row: _ratio(row["gradient"][0], row["gradient"][-1]),
    ),
    ("a layer", lambda row: number(row["gradient_growth"], ".3f")),
)


def _ratio(value: float | None, to: float | None) -> str:
    return number(value / to if value and to else None)


def _trial_table(report: Report, normalize: bool) -> str:
    settings = report["config"]["trial"]
    rates = settings["learning_rates"]
    trial = select(report["cells"], part="trial", normalize=normalize)

    def least_loss(row: Row) -> str:
        loss = median_loss(row)
        least = int(np.argmin(loss))
        return f"{number(loss[least])} @ {rates[least]:g}"

    def compared(row: Row) -> str:
        if row["label"] == HB_NET:
            return ""
        place = {name: row[name] for name in ("label", "depth", "normalize")}
        (found,) = select(report["compared"], **place)
        return f"{found['mean']:+.2f} (p = {found['p_corrected']:.2g})"

    columns = (
        ("layers, structure", lambda row: f"{row['depth']}, {row['label']}"),
        ("first gradient", lambda row: number(_median(row["first_gradient_norm"]))),
        (
            "largest rate that trains",
            lambda row: number(_median(largest_rates(row, rates)) or None),
        ),
        ("least loss @ rate", least_loss),
        ("failed", count_failed),
        ("not finite", lambda row: str(np.sum(row["diverged"]))),
        ("HB-Net fails at", compared),
    )
    return (
        table(trial, columns)
        + "\n\nMedians over the seeds. The last column: at how many rates more HB-Net "
        "fails than this structure does, and the corrected p-value."
    )


def _median(values: Any) -> float:
    return float(np.median(np.array(values, float)))


# More recurrences than one cycle of colours tells apart at a glance.
STYLES = ("-", "--", ":")
TOP = 3.0
"""A loss that is larger, or none, is drawn here."""


def figures(report: Report) -> dict[str, Figure]:
    """Draw spectral radius against λ, norms against depth, and loss against rate."""
    return {
        "roots": draw_roots(select(report["cells"], part="roots")),
        "norms": draw_norms(select(report["cells"], part="norms")),
        "trial": draw_trial(report),
    }


def draw_roots(rows: list[Row]) -> Figure:
    """Draw the spectral radius of each recurrence over T(x) = λ x."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    for index, row in enumerate(rows):
        radii = np.array(row["radius_by_slope"], float)
        axis.plot(row["slopes"], radii, STYLES[index % 3], label=row["label"])
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set(xlabel="λ, the slope of T", ylabel="largest modulus of a root")
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def draw_norms(rows: list[Row]) -> Figure:
    """Draw signal and gradient norms against depth."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for index, row in enumerate(rows):
        signal, gradient = (np.array(row[n], float) for n in ("signal", "gradient"))
        layers = np.arange(1, len(signal) + 1)
        style = STYLES[index % 3]
        axes[0].plot(layers, signal / signal[0], style, label=row["label"])
        axes[1].plot(layers, gradient / gradient[-1], style)
    axes[0].set(title="signal x_k / x_1", xlabel="layer k", yscale="log")
    axes[1].set(title="gradient at k / at K", xlabel="layer k", yscale="log")
    for axis in axes:
        axis.axhline(1, color="black", linewidth=0.8)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def draw_trial(report: Report) -> Figure:
    """Draw the final loss against the learning rate, a panel for each depth."""
    settings = report["config"]["trial"]
    depths, kinds = settings["depths"], settings["normalize"]
    # At least as wide as the legend.
    size = max(4 * len(depths), 7.5), 3 * len(kinds)
    figure = Figure(figsize=size, layout="constrained")
    axes: Any = figure.subplots(
        len(kinds), len(depths), sharex=True, sharey=True, squeeze=False
    )
    for row in select(report["cells"], part="trial"):
        axis = axes[kinds.index(row["normalize"]), depths.index(row["depth"])]
        loss = np.array(row["final_loss"], float)
        capped = np.where(np.isfinite(loss), loss, np.inf).clip(max=TOP)
        low, middle, high = np.quantile(capped, (0.25, 0.5, 0.75), axis=1)
        axis.plot(settings["learning_rates"], middle, marker=".", label=row["label"])
        axis.fill_between(settings["learning_rates"], low, high, alpha=0.2)
        kind = "with" if row["normalize"] else "without"
        axis.set(title=f"{row['depth']} layers, {kind} BN", xscale="log")
    for axis in axes.flat:
        axis.axhline(settings["failed_above"], color="black", linewidth=0.8)
    figure.supxlabel("learning rate")
    figure.supylabel(f"final loss, {TOP:g} where it is larger or diverged")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def outcome(row: Row) -> str:
    """Say what a row has in a line."""
    if row["part"] == "roots":
        return f"{row['label']}: modulus {row['radius']:.3g}"
    if row["part"] == "norms":
        return f"{row['label']}: {len(row['warnings'])} of 2 norms grow"
    kind = ", normalised" if row["normalize"] else ""
    return f"{row['label']}, {row['depth']} layers{kind}: {count_failed(row)} failed"


STUDY = Study(
    name="stability",
    config=StabilityConfig,
    plan=plan,
    measurement=measurement,
    outcome=outcome,
    text=text,
    figures=figures,
    conclude=conclude,
)
