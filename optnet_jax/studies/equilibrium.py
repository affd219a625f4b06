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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from optnet_jax import data
from optnet_jax.configuration import Block
from optnet_jax.configuration.train import Count, Data, Rate, Seed
from optnet_jax.kinds import Items, OneOf, Range
from optnet_jax.recurrences import NesterovSum, Recurrence, iterate, methods
from optnet_jax.structures import Equilibrium, SymmetricMap
from optnet_jax.structures.shrinkage import soft_threshold
from optnet_jax.studies.cells import Row
from optnet_jax.studies.comparison import compare
from optnet_jax.studies.convergence import first_for_good, fit_exponent
from optnet_jax.studies.fit import descend
from optnet_jax.studies.kinds import Layers, Positive, Seeds
from optnet_jax.studies.study import Report, Study, StudyConfig, select
from optnet_jax.studies.tables import markdown_table, number, with_sd
from optnet_jax.studies.verdict import FEWER, MORE, direction, holm, judge

BASELINE = "gd"
FINAL_TOLERANCE = 1e-6
"""Relative residual of the x* that others are compared with."""

PROXIMAL: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "soft_threshold": lambda x: soft_threshold(x, 0.1),
}
"""Φ = prox_ψ, of slopes in [0, 1]: ψ is the indicator of x ≥ 0, a barrier, 0.1 |x|."""

Fraction = Annotated[float, Range(above=0, below=1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut(Block, path="equilibrium.cut."):
    """``config.equilibrium.cut``: networks trained with K layers of each method.

    Attributes:
        mu: μ.
        depths: K.
    """

    mu: Fraction
    depths: Annotated[tuple[Layers, ...], Items(distinct=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Varied(Block, path="equilibrium.varied."):
    """``config.equilibrium.varied``: settings that could change a verdict, at cut.mu.

    Attributes:
        learning_rate: Of Adam.
        scale: Of the initial V.
        tolerance: Of x* in training.
    """

    learning_rate: Annotated[tuple[Rate, ...], Items(distinct=True)]
    scale: Annotated[tuple[Positive, ...], Items(distinct=True)]
    tolerance: Annotated[tuple[Fraction, ...], Items(distinct=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Block, path="equilibrium."):
    """``config.equilibrium``.

    Attributes:
        activations: Φ, keys of :data:`PROXIMAL`.
        mus: μ, which bounds κ by 1/μ.
        width: n.
        steps: Of training.
        learning_rate: Of Adam, at the start of its cosine decay.
        scale: Factor of the initial V; that of W is in no network, see SymmetricMap.
        tolerance: Relative residual of x* in training.
        depth: Layers that are read out.
        residual: Relative residual that counts as the minimiser reached.
        cut: The networks of K layers.
        varied: What is changed, one at a time.
        seeds: Of weights and order of batches.
    """

    activations: Annotated[
        tuple[Annotated[str, OneOf(tuple(PROXIMAL))], ...],
        Items(least=1, distinct=True),
    ]
    mus: Annotated[tuple[Fraction, ...], Items(least=1, distinct=True)]
    width: Annotated[int, Range(least=1, most=4096)]
    steps: Count
    learning_rate: Rate
    scale: Positive
    tolerance: Fraction
    depth: Layers
    residual: Fraction
    cut: Cut
    varied: Varied
    seeds: Seeds


@dataclasses.dataclass(frozen=True, kw_only=True)
class EquilibriumConfig(StudyConfig):
    """The fields of ``configs/equilibrium.py``.

    Attributes:
        seed: Of the order of the images.
        equilibrium: The study.
        data: Its images.
    """

    experiment: Literal["equilibrium"] = "equilibrium"
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

    def solved(part: str, phi: str, mu: float, *changed: Any) -> Cell:
        readers = Readers(tuple(m.recurrence(mu) for m in minimisers))
        return Cell(part, phi, mu, "x*", 0, readers, *changed)

    mu = study.cut.mu
    changed = [
        (field.name, value)
        for field in dataclasses.fields(study.varied)
        for value in getattr(study.varied, field.name)
    ]
    return [
        *(solved("solved", phi, mu) for phi in study.activations for mu in study.mus),
        *(
            solved("varied", phi, mu, *each)
            for phi in study.activations
            for each in changed
        ),
        *(
            Cell("cut", phi, mu, m.key, depth, Readers((m.recurrence(mu),)))
            for phi in study.activations
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


@dataclasses.dataclass(frozen=True)
class Images:
    """What all cells are trained and tested on.

    Attributes:
        batches: images [steps, B, pixels] and labels [steps, B].
        test: images [N, pixels] and labels [N].
        classes: how many.
    """

    batches: tuple[jax.Array, jax.Array]
    test: tuple[jax.Array, jax.Array]
    classes: int


def load(config: Data, seed: int, steps: int) -> Images:
    """Return the images, flat, those of each step of training included."""
    dataset = data.load(config, seed=seed)
    first = itertools.islice(dataset.train_batches(), steps)
    batches = [(_flat(b["image"]), np.asarray(b["label"])) for b in first]
    kept = [(b, np.asarray(b["mask"]) > 0) for b in dataset.eval_batches()]
    test = [(_flat(b["image"])[m], np.asarray(b["label"])[m]) for b, m in kept]
    images, labels = (jnp.asarray(np.stack(e)) for e in zip(*batches, strict=True))
    last, of_last = (jnp.asarray(np.concatenate(e)) for e in zip(*test, strict=True))
    return Images((images, labels), (last, of_last), dataset.num_classes)


def _flat(images: Any) -> np.ndarray:
    return np.asarray(images).reshape(len(images), -1)


def measurement(config: EquilibriumConfig) -> Callable[[Cell], Row]:
    """Return the function that measures a cell; the images are loaded once."""
    images = load(config.data, config.seed, config.equilibrium.steps)
    return functools.partial(measure, config=config, images=images)


def measure(cell: Cell, config: EquilibriumConfig, images: Images) -> Row:
    """Train all seeds of a cell, and read them out.

    Returns:
        Test errors (%) and residuals by seed; of one trained through x*, for each
        method the layers needed by seed, and the mean test errors over the layers.
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
        row["methods"][method.key] = {
            "layers_error": [_for_good(each) for each in same],
            "layers_residual": [_for_good(r <= study.residual) for r in residuals],
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
        images, labels = (each[step] for each in batches)
        logits, _ = network.apply(variables, images, tolerance=study.tolerance)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    order = jax.random.permutation(keys[1], steps)
    return descend(loss, variables, optimizer, order)[0]


def conclude(config: EquilibriumConfig, rows: list[Row]) -> Report:
    """Compare each method with gradient descent by seed, and judge.

    The tests of one table, of a Φ and a question, are corrected for their number.
    """
    study = config.equilibrium
    tables, verdicts, varied = {}, {}, {}
    for phi in study.activations:
        own = _layers_of(select(rows, part="solved", activation=phi), study.depth)
        verdicts[phi] = {mu: _verdict(own, mu) for mu in own["layers_error"]}
        own["cut"] = compared(
            {
                str(depth): {
                    row["method"]: row["error"]
                    for row in select(rows, part="cut", activation=phi, depth=depth)
                }
                for depth in sorted(study.cut.depths)
            }
        )
        tables[phi] = own
        others = _layers_of(select(rows, part="varied", activation=phi), study.depth)
        varied[phi] = {
            "layers_error": others["layers_error"],
            "verdicts": {
                each: _verdict(others, each) for each in others["layers_error"]
            },
        }
    return {"compared": tables, "verdicts": verdicts, "varied": varied}


def _layers_of(rows: list[Row], depth: int) -> Report:
    """Compare the layers that methods need, to both ends, in columns of the rows."""
    return {
        what: compared(
            {
                f"{row['value']:g}, {row['setting']}"
                if row["setting"]
                else f"{row['mu']:g}": {
                    key: _log2(found[what], depth)
                    for key, found in row["methods"].items()
                }
                for row in rows
            }
        )
        for what in ("layers_residual", "layers_error")
    }


def _verdict(own: Report, column: str) -> str:
    """Say whether methods that reach x* sooner need fewer layers to its test error."""
    iterations, networks = (
        {key: each["direction"] for key, each in own[what][column].items()}
        for what in ("layers_residual", "layers_error")
    )
    head = judge(iterations, networks).partition(":")[0]
    faster = [key for key, found in iterations.items() if found == FEWER]
    counts = [sum(networks[key] == d for key in faster) for d in (FEWER, MORE)]
    return (
        f"{head}: of {len(faster)} method(s) that reach x* sooner than GD, {counts[0]} "
        f"need fewer layers to its test error, {counts[1]} more"
    )


def _log2(layers: Sequence[int | None], depth: int) -> list[float]:
    """Return doublings; what is not reached counts as twice the deepest."""
    return [math.log2(each or 2 * depth) for each in layers]


def compared(
    columns: Mapping[str, Mapping[str, Sequence[float]]], baseline: str = BASELINE
) -> Report:
    """Compare every method of every column with the baseline of the column.

    Args:
        columns: column -> method -> values by seed.
        baseline: the method that others are compared with.

    Returns:
        column -> method -> its values, their mean difference to the baseline's, its
        direction, and the p-value, corrected for the number of tests in the table.
    """
    found = {}
    for column, by_method in columns.items():
        of_baseline = dict(enumerate(by_method[baseline]))
        for key, values in by_method.items():
            found[column, key] = compare(dict(enumerate(values)), of_baseline)
    tested = [place for place in found if place[1] != baseline]
    corrected = dict(
        zip(tested, holm([found[place].p_value for place in tested]), strict=True)
    )
    table: Report = {column: {} for column in columns}
    for (column, key), each in found.items():
        p_value = corrected.get((column, key), 1.0)
        table[column][key] = {
            "values": list(columns[column][key]),
            "mean": each.mean,
            "p_value": p_value,
            "direction": direction(each.verdict_at(p_value, len(tested))),
        }
    return table


SIGNS = {FEWER: " ↓", MORE: " ↑"}


def text(report: Report) -> Iterator[str]:
    """Write the report: for each Φ the verdicts and three tables."""
    study, config = report["config"]["equilibrium"], report["config"]
    yield "# When is a faster method a better network? Where it is the minimiser"
    yield (
        f"x* = Φ(W x* + b(image)), 0 ⪯ W ⪯ (1 - μ) I, n = {study['width']}, trained "
        f"{study['steps']} steps of Adam on {config['data']['dataset']}, "
        f"{len(study['seeds'])} seeds; {report['device']}, JAX "
        f"{report['versions']['jax']}, {report['wall_seconds']} s. ↓ and ↑: fewer and "
        "more than GD (or lower and higher error), p ≤ 0.05 by the sign-flip test over "
        "the seeds, corrected by Holm's method for the number of tests in the table."
    )
    solved = select(report["cells"], part="solved")
    for phi, own in report["compared"].items():
        yield f"## {phi}"
        errors = [
            f"μ = {row['mu']:g}: {with_sd(row['error'], 2)} %"
            for row in select(solved, activation=phi)
        ]
        yield f"Test error at x*: {'; '.join(errors)}."
        yield "\n".join(
            f"* κ ≤ {1 / float(mu):.3g}: **{verdict}**"
            for mu, verdict in report["verdicts"][phi].items()
        )
        yield (
            f"Layers until the relative residual is {study['residual']:g}, geometric "
            f"mean over the seeds, and p of layers ∝ κ^p:"
        )
        yield _layers_table(own["layers_residual"])
        yield "Layers until the test error is that of x* for good, likewise:"
        yield _layers_table(own["layers_error"])
        mu = study["cut"]["mu"]
        if varied := report["varied"][phi]["verdicts"]:
            yield (
                f"The same at μ = {mu:g}, trained with one setting changed; layers "
                "until the test error is that of x* for good:"
            )
            yield "\n".join(f"* {each}: **{line}**" for each, line in varied.items())
            yield _table(report["varied"][phi]["layers_error"], "{}", _layers)
        if own["cut"]:
            yield f"Test error (%) of networks trained with K layers, μ = {mu:g}:"
            yield _table(own["cut"], "K = {}", lambda each: with_sd(each["values"], 2))


def _layers_table(table: Report) -> str:
    conditions = [1 / float(mu) for mu in table]

    def exponent(key: str) -> list[str]:
        layers = [2 ** float(np.mean(table[mu][key]["values"])) for mu in table]
        slope = fit_exponent(conditions, layers)
        return [number(slope, ".2f")]

    return _table(table, "μ = {}", _layers, exponent, ("p",))


def _layers(each: Report) -> str:
    return f"{2 ** float(np.mean(each['values'])):.1f}"


def _table(
    table: Report,
    column: str,
    entry: Callable[[Report], str],
    last: Callable[[str], list[str]] = lambda key: [],
    more: Sequence[str] = (),
) -> str:
    rows = [
        [
            methods.find(key).label,
            *(entry(each) + SIGNS.get(each["direction"], "") for each in of_all),
            *last(key),
        ]
        for key in next(iter(table.values()))
        for of_all in ([by_method[key] for by_method in table.values()],)
    ]
    return markdown_table(["method", *map(column.format, table), *more], rows)


def figures(report: Report) -> dict[str, Figure]:
    """Draw the mean test error against the layers that are read, for each Φ and μ."""
    solved, compared = select(report["cells"], part="solved"), report["compared"]
    mus = list(dict.fromkeys(row["mu"] for row in solved))
    figure = Figure(figsize=(4 * len(mus), 3 * len(compared) + 1), layout="constrained")
    axes = figure.subplots(len(compared), len(mus), squeeze=False, sharey=True)
    for row, axis in zip(solved, axes.flat, strict=True):
        first = axis is axes[0, 0]
        for key, found in row["methods"].items():
            label = methods.find(key).label if first else None
            axis.semilogx(
                np.arange(1, len(found["error"])), found["error"][1:], label=label
            )
        axis.axhline(np.mean(row["error"]), color="black", linestyle=":")
        axis.set(title=f"Φ = {row['activation']}, μ = {row['mu']:g}", yscale="log")
    for axis in axes[-1]:
        axis.set_xlabel("layers")
    for axis in axes[:, 0]:
        axis.set_ylabel("test error, %")
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    return {"equilibrium": figure}


def outcome(row: Row) -> str:
    """Say what a row has in a line."""
    depth = f", {row['depth']} layers" if row["depth"] else ""
    if row["setting"]:
        depth = f", {row['setting']} = {row['value']:g}"
    return (
        f"{row['method']}, {row['activation']}, μ = {row['mu']:g}{depth}: "
        f"{with_sd(row['error'], 2)} %"
    )


STUDY = Study(
    name="equilibrium",
    config=EquilibriumConfig,
    plan=plan,
    measurement=measurement,
    outcome=outcome,
    text=text,
    figures=figures,
    conclude=conclude,
)
