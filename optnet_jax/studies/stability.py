"""What a structure does to signals and gradients: roots, norms, training at depth.

Three parts: the characteristic roots of each recurrence (:mod:`.roots`), the norms in
structures that are not trained (:mod:`.norms`), and a trial of whether HB-Net trains
more stably than ResNet at depth, as §7.2 says (:mod:`.trial`).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from matplotlib.figure import Figure

from optnet_jax.configuration import Block
from optnet_jax.configuration.train import Count, Data, Seed
from optnet_jax.errors import InputError
from optnet_jax.objectives import activation_pair
from optnet_jax.recurrences import Recurrence, methods
from optnet_jax.structures import FullyConnected, Propagation
from optnet_jax.studies import kinds
from optnet_jax.studies import trial as trials
from optnet_jax.studies.cells import Row
from optnet_jax.studies.fit import members
from optnet_jax.studies.images import Images, OnImages, load
from optnet_jax.studies.markdown import bullets, number, ratio, select, table
from optnet_jax.studies.norms import measure
from optnet_jax.studies.panels import legend, panels
from optnet_jax.studies.roots import characteristic_roots, radius_over_slopes
from optnet_jax.studies.study import Report, Study, StudyConfig
from optnet_jax.studies.trial import KINDS, count_failed
from optnet_jax.studies.verdict import TESTED

ROOTS_DEPTH = 100
"""The step whose roots are taken: (3) is near its limit there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Norms(Block, path="stability.norms."):
    """``config.stability.norms``: structures of fully connected layers, He normal."""

    depth: kinds.Layers
    width: kinds.Size
    batch: Count
    activation: kinds.Activation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stability(Block, path="stability."):
    """``config.stability``: roots and norms."""

    norms: Norms
    tolerance: kinds.Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial(Block, path="trial."):
    """``config.trial``: see :mod:`optnet_jax.studies.trial`."""

    depths: kinds.WeightDepths
    width: kinds.Size
    normalize: kinds.Normalize
    learning_rates: kinds.Rates
    seeds: kinds.Seeds
    steps: Count
    failed_above: kinds.Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class StabilityConfig(StudyConfig):
    """The fields of ``configs/stability.py``, which says what each is."""

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
    images = load(config.data, config.seed, config.trial.steps)
    guess, limit = math.log(images.classes), config.trial.failed_above
    if limit >= guess:
        raise InputError(
            f"config.trial.failed_above={limit:g} is no less than the loss of a guess, "
            f"{guess:.3g} for the {images.classes} classes of {config.data.dataset}: a "
            "run that learns nothing would not have failed"
        )
    parts: dict[str, Callable[[Cell], Row]] = {
        "roots": measure_roots,
        "norms": functools.partial(measure_norms, config=config),
        "trial": functools.partial(run_trial, config=config, images=images),
    }
    return OnImages(lambda cell: parts[cell.part](cell), images.fingerprint)


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


def run_trial(cell: Cell, config: StabilityConfig, images: Images) -> Row:
    """Train every seed at every rate.

    Returns:
        The final loss (the mean of the last tenth of the steps), whether it failed, and
        the gradient's norm at the first step, each [rates][seeds].
    """
    settings = config.trial
    trial = trials.Trial(cell.recurrence, cell.depth, settings.width, cell.normalize)
    program = members(lambda rate, seed: trials.train(trial, images, seed, rate)[1])
    grid = np.meshgrid(settings.learning_rates, settings.seeds, indexing="ij")
    rates, seeds = (jnp.asarray(each.ravel()) for each in grid)
    loss, norm = (
        np.reshape(each, (*grid[0].shape, -1)) for each in program(rates, seeds)
    )
    final = loss[..., -max(1, settings.steps // 10) :].mean(-1)
    return {
        "final_loss": final.tolist(),
        "failed": (~(final <= settings.failed_above)).tolist(),
        "diverged": (~np.isfinite(loss).all(-1)).tolist(),
        "first_gradient_norm": norm[..., 0].tolist(),
    }


def conclude(config: StabilityConfig, rows: list[Row]) -> Report:
    """Compare in the trial, and judge it with and without normalisation."""
    trial = select(rows, part="trial")
    compared = trials.compare_all(trial)
    return {
        "compared": compared,
        "verdicts": {
            KINDS[normalize]: trials.judge(trial, compared, normalize)
            for normalize in config.trial.normalize
        },
    }


def text(report: Report) -> Iterator[str]:
    """Write the report."""
    settings = report["config"]["trial"]
    rates = settings["learning_rates"]
    layers = report["config"]["stability"]["norms"]
    norms = select(report["cells"], part="norms")
    yield "# What a structure does to signals and gradients"
    yield "HB-Net more stable than ResNet at depth:"
    yield bullets(report["verdicts"])
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
        f"{report['config']['data']['dataset']}, SGD with momentum 0.9, no warm-up, "
        f"{len(rates)} rates from {min(rates):g} to {max(rates):g}, "
        f"{len(settings['seeds'])} seeds. A run has failed if its loss at the end is "
        f"above {settings['failed_above']:g} or not finite. HB-Net is judged against "
        "ResNet with the same activation, by at how many rates a seed fails: "
        f"{TESTED} for all {len(report['compared'])} comparisons."
    )
    for normalize in settings["normalize"]:
        yield f"### {KINDS[normalize].capitalize()}"
        trial = select(report["cells"], part="trial", normalize=normalize)
        yield table(trial, trials.columns(report))
        yield (
            "Medians over the seeds, and how many runs of all seeds failed or were not "
            "finite. The last column: at how many rates more HB-Net fails than this "
            "structure does, in the mean, and the corrected p-value."
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
    ("signal, last / first", lambda row: ratio(row["signal"][-1], row["signal"][0])),
    ("a layer", lambda row: number(row["signal_growth"], ".3f")),
    (
        "gradient, first / last",
        lambda row: ratio(row["gradient"][0], row["gradient"][-1]),
    ),
    ("a layer", lambda row: number(row["gradient_growth"], ".3f")),
)


# More recurrences than one cycle of colours tells apart at a glance.
STYLES = ("-", "--", ":")


def figures(report: Report) -> dict[str, Figure]:
    """Draw spectral radius against λ, norms against depth, and loss against rate."""
    return {
        "roots": draw_roots(select(report["cells"], part="roots")),
        "norms": draw_norms(select(report["cells"], part="norms")),
        "trial": trials.draw(report),
    }


def draw_roots(rows: list[Row]) -> Figure:
    """Draw the spectral radius of each recurrence over T(x) = λ x."""
    figure, ((axis,),) = panels(1, 1, 8, 4)
    for index, row in enumerate(rows):
        radii = np.array(row["radius_by_slope"], float)
        axis.plot(row["slopes"], radii, STYLES[index % 3], label=row["label"])
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set(xlabel="λ, the slope of T", ylabel="largest modulus of a root")
    return legend(figure, "right upper", 1)


def draw_norms(rows: list[Row]) -> Figure:
    """Draw signal and gradient norms against depth."""
    figure, ((first, second),) = panels(1, 2, 5.5, 4)
    for axis, name, to in ((first, "signal", 0), (second, "gradient", -1)):
        for index, row in enumerate(rows):
            norms = np.array(row[name], float)
            layers = np.arange(1, len(norms) + 1)
            style = STYLES[index % 3]
            axis.plot(layers, norms / norms[to], style, label=row["label"])
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set(xlabel="layer k", yscale="log")
    first.set_title("signal x_k / x_1")
    second.set_title("gradient at k / at K")
    return legend(figure, "right upper", 1)


def outcome(row: Row) -> str:
    """Say what a row has in a line."""
    if row["part"] == "roots":
        return f"modulus {row['radius']:.3g}"
    if row["part"] == "norms":
        return f"{len(row['warnings'])} of 2 norms grow"
    return f"{count_failed(row)} failed"


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
