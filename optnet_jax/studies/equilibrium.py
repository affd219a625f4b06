"""When is a faster method a better network? Where the network is the minimiser.

The paper's claim (§5.1) is about argmin F. Give F a linear term in the image: then
x* = Φ(W x* + b(image)), 0 ⪯ W ⪯ (1 - μ) I, Φ a proximal map, is the minimiser of a
strongly convex F with κ ≤ 1/μ. It does not depend on the method, and a network of K
layers is a method stopped after K steps. Two parts:

* ``solved``: trained once through x*, then read out after each number of layers; at
  one μ also ``varied``, with one setting of the training changed at a time;
* ``cut``: trained with each method stopped at K layers, the paper's setting.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from optnet_jax.configuration import Block
from optnet_jax.configuration.train import Count, Data, Rate, Seed
from optnet_jax.errors import InputError
from optnet_jax.kinds import Items, OneOf
from optnet_jax.recurrences import NesterovSum, Recurrence, iterate, methods
from optnet_jax.structures import Equilibrium, SymmetricMap
from optnet_jax.structures.shrinkage import soft_threshold
from optnet_jax.studies import kinds, verdict
from optnet_jax.studies.cells import Row
from optnet_jax.studies.convergence import first_for_good, fit_exponent
from optnet_jax.studies.fit import fit
from optnet_jax.studies.images import Images, OnImages, load
from optnet_jax.studies.markdown import bullets, number, pivot, select, with_sd
from optnet_jax.studies.panels import legend, panels
from optnet_jax.studies.study import Report, Study, StudyConfig

BASELINE = {"method": "gd"}
FINAL_TOLERANCE = 1e-6
"""Relative residual of the x* that others are compared with."""

PROXIMAL: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "soft_threshold": lambda x: soft_threshold(x, 0.1),
}
"""Φ = prox_ψ, of slopes in [0, 1]: ψ is the indicator of x ≥ 0, a barrier, 0.1 |x|."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut(Block, path="equilibrium.cut."):
    """``config.equilibrium.cut``: networks trained with K layers of each method."""

    mu: kinds.Fraction
    depths: Annotated[tuple[kinds.Layers, ...], Items(distinct=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Varied(Block, path="equilibrium.varied."):
    """``config.equilibrium.varied``: what could change a verdict, at cut.mu."""

    learning_rate: Annotated[tuple[Rate, ...], kinds.printed_apart()]
    scale: Annotated[tuple[kinds.Positive, ...], kinds.printed_apart()]
    tolerance: Annotated[tuple[kinds.Fraction, ...], kinds.printed_apart()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Block, path="equilibrium."):
    """``config.equilibrium``."""

    activations: Annotated[
        tuple[Annotated[str, OneOf(tuple(PROXIMAL))], ...], kinds.SOME
    ]
    mus: kinds.Fractions
    width: kinds.Size
    steps: Count
    learning_rate: Rate
    scale: kinds.Positive
    tolerance: kinds.Fraction
    depth: kinds.Layers
    residual: kinds.Fraction
    cut: Cut
    varied: Varied
    seeds: kinds.Seeds


@dataclasses.dataclass(frozen=True, kw_only=True)
class EquilibriumConfig(StudyConfig):
    """The fields of ``configs/equilibrium.py``, which says what each is."""

    seed: Seed
    equilibrium: Settings
    data: Data


@dataclasses.dataclass(frozen=True)
class Readers:
    """The methods that a cell is measured with."""

    recurrences: tuple[Recurrence, ...]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One kind of network, all its seeds.

    Attributes:
        part: ``"solved"``, ``"varied"`` or ``"cut"``.
        activation: Φ.
        mu: μ.
        method: that it is trained with, a key; ``"x*"``: through the equilibrium.
        depth: layers that it is trained with; 0: x*.
        readers: the method that it is trained with, or those that read it out.
        setting: the field of :class:`Settings` that is changed, or none.
        value: its value.
    """

    part: str
    activation: str
    mu: float
    method: str
    depth: int
    readers: Readers
    setting: str = ""
    value: float = 0.0

    @property
    def name(self) -> str:
        """The part and what tells it from the others."""
        what = f"{self.setting} {self.value:g}" if self.setting else self.method
        return f"{self.part} {self.activation} {self.mu:g} {what} {self.depth}"

    @property
    def work(self) -> float:
        """Layers of a step of training, roughly."""
        return 4 + self.depth if self.depth else 40 + 10 * self.mu**-0.5


def plan(config: EquilibriumConfig) -> list[Cell]:
    """List the networks trained through x*, those varied, and those of K layers."""
    study, minimisers = config.equilibrium, methods.minimisers()
    phis, mu = study.activations, study.cut.mu

    def through_x(part: str, phi: str, mu: float, *changed: Any) -> Cell:
        readers = Readers(tuple(m.recurrence(mu) for m in minimisers))
        return Cell(part, phi, mu, "x*", 0, readers, *changed)

    changed = [
        (field.name, value)
        for field in dataclasses.fields(study.varied)
        for value in getattr(study.varied, field.name)
    ]
    return [
        *(through_x("solved", phi, each) for phi in phis for each in study.mus),
        *(through_x("varied", phi, mu, *each) for phi in phis for each in changed),
        *(
            Cell("cut", phi, mu, m.key, depth, Readers((m.recurrence(mu),)))
            for phi in phis
            for depth in sorted(study.cut.depths)
            for m in minimisers
        ),
    ]


class Network(nn.Module):
    """image ↦ b = V image + c ↦ x* = Φ(W x* + b), or x_K from x_0 = 0, ↦ U x + d.

    Attributes:
        cell: Φ, μ, K.
        width: n.
        classes: of the images.
        scale: of the initial V.
    """

    cell: Cell
    width: int
    classes: int
    scale: float = 1.0

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        recurrence: Recurrence | None = None,
        depth: int = 0,
        tolerance: float = FINAL_TOLERANCE,
    ) -> tuple[jax.Array, jax.Array]:
        """Return the logits and the relative residual of all samples together.

        Args:
            images: [B, pixels]
            recurrence: reads out x_0..x_depth, on a leading axis; None: the cell's.
            depth: how many layers it reads.
            tolerance: of x*.
        """
        drawn = nn.initializers.variance_scaling(
            self.scale**2, "fan_in", "truncated_normal"
        )
        b = nn.Dense(self.width, kernel_init=drawn, name="stem")(images)
        w, zeros = SymmetricMap(self.cell.mu, name="map")(b), jnp.zeros_like(b)
        phi = PROXIMAL[self.cell.activation]

        def layer(x: jax.Array, w: Any = w, b: jax.Array = b) -> jax.Array:
            return phi(w(x) + b)

        if recurrence is not None:
            x = iterate(recurrence, layer, zeros, depth, trajectory=True)
        elif self.cell.depth:
            (own,) = self.cell.readers.recurrences
            x = iterate(own, layer, zeros, self.cell.depth)
        else:
            # Nesterov's method tuned to μ, read out where T is evaluated.
            root = self.cell.mu**0.5
            tuned = NesterovSum((1 - root) / (1 + root))
            x = Equilibrium(tuned, layer, tolerance, name="solve")(zeros, w, b)
        again = layer(x, b=jnp.broadcast_to(b, x.shape))
        moved = jnp.linalg.norm(again - x, axis=(-2, -1))
        logits = nn.Dense(self.classes, name="head")(x)
        return logits, moved / jnp.linalg.norm(x, axis=(-2, -1))


def measurement(config: EquilibriumConfig) -> Callable[[Cell], Row]:
    """Return the function that measures a cell; the images are loaded once."""
    images = load(config.data, config.seed, config.equilibrium.steps)
    return OnImages(
        functools.partial(measure, config=config, images=images), images.fingerprint
    )


def measure(cell: Cell, config: EquilibriumConfig, images: Images) -> Row:
    """Train all seeds of a cell, and read them out.

    Returns:
        Test errors (%) and residuals by seed; of one trained through x*, for each
        method the layers needed by seed, and the mean test errors over the layers.

    Raises:
        InputError: a network that diverged in training.
    """
    study = config.equilibrium
    if cell.setting:
        study = dataclasses.replace(study, **{cell.setting: cell.value})
    network = Network(cell, study.width, images.classes, study.scale)
    train = functools.partial(_train, network, study)
    # One network after the other: a matrix product for each is slower on a CPU.
    variables = jax.jit(
        lambda seeds, batches: jax.lax.map(lambda s: train(s, batches), seeds)
    )(jnp.asarray(study.seeds), images.batches)
    # Not by the residual, which is 0 / 0 where all units are off; that has an error.
    if not all(np.isfinite(each).all() for each in jax.tree.leaves(variables)):
        raise InputError(
            f"{cell.name} diverged: lower its learning_rate={study.learning_rate:g} or "
            f"scale={study.scale:g}, with another --workdir"
        )
    pixels, labels = images.test

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def read(variables: Any, recurrence: Recurrence | None, depth: int) -> tuple:
        def one(each: Any) -> tuple:
            logits, residual = network.apply(each, pixels, recurrence, depth)
            missed = logits.argmax(-1) != jnp.broadcast_to(labels, logits.shape[:-1])
            return 100 * jnp.mean(missed, -1), residual

        return jax.lax.map(one, variables)

    error, residual = map(np.asarray, read(variables, None, 0))
    row = {"error": error.tolist(), "residual": residual.tolist()}
    if cell.depth:
        return row
    row["methods"] = {}
    named = zip(methods.minimisers(), cell.readers.recurrences, strict=True)
    for method, recurrence in named:
        errors, residuals = map(np.asarray, read(variables, recurrence, study.depth))
        same = np.isclose(errors, error[:, None], atol=1e-4)
        # 0 / 0 at x_0 = 0: that is x*.
        near = (residuals <= study.residual) | np.isnan(residuals[:, :1])
        row["methods"][method.key] = {
            "layers_error": [_for_good(each) for each in same],
            "layers_residual": [_for_good(each) for each in near],
            "error": errors.mean(0).round(4).tolist(),
        }
    return row


def _for_good(reached: np.ndarray) -> int | None:
    """Return the least number of layers from which on it is reached, 1 at least."""
    first = first_for_good(reached)
    return first if first is None else max(1, first)


def _train(network: Network, study: Settings, seed: jax.Array, batches: tuple) -> Any:
    """Train one network with Adam; the seed also draws the order of the batches."""
    keys = jax.random.split(jax.random.key(seed))
    steps = len(batches[0])
    variables = network.init(keys[0], batches[0][0])
    optimizer = optax.adam(optax.cosine_decay_schedule(study.learning_rate, steps))

    def loss(variables: Any, step: jax.Array) -> jax.Array:
        images, labels = (each[order[step]] for each in batches)
        logits, _ = network.apply(variables, images, tolerance=study.tolerance)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    order = jax.random.permutation(keys[1], steps)
    return fit(jax.value_and_grad(loss), variables, optimizer, (steps,))[0]


LAYERS = ("layers_residual", "layers_error")
TABLES = (*itertools.product(("solved", "varied"), LAYERS), ("cut", "error"))


def _values(
    rows: list[Row], phi: str, part: str, what: str
) -> list[tuple[Row, list[Any]]]:
    """Return what a table shows: for each column and method a number by seed.

    Layers are None where the error or residual is not reached.
    """
    found = []
    for row in select(rows, part=part, activation=phi):
        place = {"activation": phi, "part": part, "what": what, "column": _column(row)}
        if part == "cut":
            found.append(({**place, "method": row["method"]}, row["error"]))
            continue
        for key, each in row["methods"].items():
            found.append(({**place, "method": key}, each[what]))
    return found


def _doublings(place: Row, values: list[Any], depth: int) -> list[float]:
    """Return what is compared: errors, or doublings of layers.

    What is not reached counts as twice the deepest.
    """
    if place["part"] == "cut":
        return values
    return [math.log2(n or 2 * depth) for n in values]


def _column(row: Row) -> str:
    if row["setting"]:
        return f"{row['value']:g}, {row['setting']}"
    return f"K = {row['depth']}" if row["depth"] else f"μ = {row['mu']:g}"


def conclude(config: EquilibriumConfig, rows: list[Row]) -> Report:
    """Compare each method with gradient descent by seed, and judge.

    The tests of one table, of a Φ and a question, are corrected for their number.
    """
    study = config.equilibrium
    tables = (
        [
            (place, _doublings(place, values, study.depth))
            for place, values in _values(rows, phi, *table)
        ]
        for phi in study.activations
        for table in TABLES
    )
    compared = [each for own in tables for each in verdict.against(BASELINE, own)]
    verdicts: Report = {"solved": {}, "varied": {}}
    for (part, of_part), phi in itertools.product(verdicts.items(), study.activations):
        of_part[phi] = {
            _column(row): _verdict(
                select(compared, part=part, activation=phi, column=_column(row))
            )
            for row in select(rows, part=part, activation=phi)
        }
    return {"compared": compared, "verdicts": verdicts}


def _verdict(compared: list[Row]) -> str:
    """Say whether methods that reach x* sooner need fewer layers to its test error."""
    iterations, networks = (
        verdict.directions(compared, "method", what=what) for what in LAYERS
    )
    head = verdict.judge(iterations, networks).partition(":")[0]
    if head.startswith("cannot tell"):
        return head
    of_faster = [networks[k] for k, d in iterations.items() if d == verdict.FEWER]
    fewer, more = map(of_faster.count, (verdict.FEWER, verdict.MORE))
    return (
        f"{head}: of {len(of_faster)} method(s) that reach x* sooner than GD, {fewer} "
        f"need fewer layers to its test error, {more} more"
    )


def text(report: Report) -> Iterator[str]:
    """Write the report: for each Φ the verdicts and three tables."""
    study, config = report["config"]["equilibrium"], report["config"]
    yield "# When is a faster method a better network? Where it is the minimiser"
    yield (
        f"x* = Φ(W x* + b(image)), 0 ⪯ W ⪯ (1 - μ) I, so κ ≤ 1/μ; n = "
        f"{study['width']}, trained {study['steps']} steps of Adam on "
        f"{config['data']['dataset']}, {len(study['seeds'])} seeds. ↓ and ↑: fewer and "
        f"more than GD (or lower and higher error), p ≤ 0.05 by {verdict.TESTED} for "
        "the number of tests in the table, where what is not reached counts as twice "
        "the deepest."
    )
    for phi in study["activations"]:
        table = functools.partial(_table, report, study, phi)
        yield f"## {phi}"
        errors = [
            f"μ = {row['mu']:g}: {with_sd(row['error'], 2)} %"
            for row in select(report["cells"], part="solved", activation=phi)
        ]
        yield f"Test error at x*: {'; '.join(errors)}."
        yield bullets(report["verdicts"]["solved"][phi])
        yield (
            f"Layers until the relative residual is {study['residual']:g}, geometric "
            "mean over the seeds that reach it, and p of layers ∝ κ^p over the μ where "
            "all do:"
        )
        yield table("solved", "layers_residual")
        yield "Layers until the test error is that of x* for good, likewise:"
        yield table("solved", "layers_error")
        mu = study["cut"]["mu"]
        if varied := report["verdicts"]["varied"][phi]:
            yield (
                f"The same at μ = {mu:g}, trained with one setting changed; layers "
                "until the test error is that of x* for good:"
            )
            yield bullets(varied)
            yield table("varied", "layers_error")
        if study["cut"]["depths"]:
            yield f"Test error (%) of networks trained with K layers, μ = {mu:g}:"
            yield table("cut", "error")


def _table(report: Report, study: Report, phi: str, part: str, what: str) -> str:
    entries = []
    means: dict[str, list[float | None]] = {}
    for place, values in _values(report["cells"], phi, part, what):
        if part == "cut":
            shown = with_sd(values, 2)
        else:
            shown = verdict.mean_layers(values, study["depth"])
            mean = None if None in values else 2 ** float(np.mean(np.log2(values)))
            means.setdefault(place["method"], []).append(mean)
        label = methods.find(place["method"]).label
        marked = shown + verdict.mark(report["compared"], **place)
        entries.append((label, place["column"], marked))
    if part == "solved":
        conditions = [1 / mu for mu in study["mus"]]
        for key, layers in means.items():
            power = number(fit_exponent(conditions, layers), ".2f")
            entries.append((methods.find(key).label, "p", power))
    return pivot("method", entries)


def figures(report: Report) -> dict[str, Figure]:
    """Draw the mean test error against the layers that are read, for each Φ and μ."""
    study = report["config"]["equilibrium"]
    size = len(study["activations"]), len(study["mus"])
    figure, axes = panels(*size, 4, 3.3, sharey=True)
    solved = select(report["cells"], part="solved")
    for row, axis in zip(solved, axes.flat, strict=True):
        for key, found in row["methods"].items():
            layers = np.arange(1, len(found["error"]))
            label = methods.find(key).label
            axis.semilogx(layers, found["error"][1:], label=label)
        axis.axhline(np.mean(row["error"]), color="black", linestyle=":")
        axis.set(title=f"Φ = {row['activation']}, μ = {row['mu']:g}", yscale="log")
    figure.supxlabel("layers")
    figure.supylabel("test error, %")
    return {"equilibrium": legend(figure)}


STUDY = Study(
    name="equilibrium",
    config=EquilibriumConfig,
    plan=plan,
    measurement=measurement,
    outcome=lambda row: f"{with_sd(row['error'], 2)} %",
    text=text,
    figures=figures,
    conclude=conclude,
)
