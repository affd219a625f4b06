"""Does a faster method need fewer layers where networks began: in sparse coding (§1.2)?

b = A x + noise, x sparse. ISTA, FISTA and linearised ADMM are (7), (12) and (14) over
one operator T, :func:`~optnet_jax.structures.shrinkage`; LISTA and its kin run the same
recurrences over T with learned weights. Three forms of each method:

* ``method``: T as it is, run for many steps;
* ``tied``, ``untied``: a network of K layers that begins as the method and is trained
  so that each layer estimates x: on the mean over the layers of the error in dB.

The error is ‖x_k - x‖² / ‖x‖², summed over the signals, in dB.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from optnet_jax.configuration import Block
from optnet_jax.configuration.train import Count, Rate
from optnet_jax.errors import InputError
from optnet_jax.kinds import OneOf, Range
from optnet_jax.recurrences import Recurrence, iterate, methods
from optnet_jax.structures import Propagation, Shrinkage, shrinkage
from optnet_jax.studies import kinds, verdict
from optnet_jax.studies.cells import Row
from optnet_jax.studies.fit import fit, members
from optnet_jax.studies.markdown import bullets, number, select, table, with_sd
from optnet_jax.studies.panels import legend, panels
from optnet_jax.studies.study import Report, Study, StudyConfig

BASELINE = "gd"
FORMS = {
    "method": "T as it is",
    "tied": "Learned, one set of weights for all layers",
    "untied": "Learned, a set of weights for each layer",
}


def _usable() -> tuple[str, ...]:
    """Return the methods that need no μ: F is not strongly convex where m < n."""
    return tuple(m.key for m in methods.minimisers() if not m.tuned)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Block, path="sparse_coding."):
    """``config.sparse_coding``."""

    rows: kinds.Size
    columns: kinds.Size
    support: Annotated[float, Range(above=0, most=1)]
    snr_db: Annotated[float, Range(least=-100, most=300)]
    penalty: kinds.Positive
    methods: Annotated[tuple[Annotated[str, OneOf(_usable)], ...], kinds.SOME]
    iterations: kinds.Layers
    depth: kinds.Layers
    levels_db: Annotated[
        tuple[Annotated[float, Range(least=-300, below=0)], ...],
        kinds.SOME,
        kinds.printed_apart(),
    ]
    coupled: bool
    steps: Count
    batch_size: Count
    learning_rate: Rate
    test_signals: Count
    seeds: kinds.Seeds

    def check(self) -> None:
        """Refuse a problem without signal, and methods without their baseline."""
        entries = self.support * self.columns
        # A batch without signal has no relative error; e^-20 of them is none.
        if entries * min(self.batch_size, self.test_signals) < 20:
            raise InputError(
                f"config.sparse_coding.support={self.support:g} leaves {entries:.2g} "
                f"of {self.columns} entries of x, and of a batch less than 20: raise "
                "it, or batch_size and test_signals"
            )
        if BASELINE not in self.methods:
            raise InputError(
                f"config.sparse_coding.methods lacks {BASELINE}, with which the others "
                "are compared: add it"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseCodingConfig(StudyConfig):
    """The fields of ``configs/sparse_coding.py``, which says what each is."""

    sparse_coding: Settings


@dataclasses.dataclass(frozen=True)
class Cell:
    """One method in one form, all its seeds.

    Attributes:
        form: a key of :data:`FORMS`.
        method: its key.
        depth: steps, or layers.
        recurrence: the method.
    """

    form: str
    method: str
    depth: int
    recurrence: Recurrence

    @property
    def name(self) -> str:
        """The form and the method."""
        return f"{self.form} {self.method}"

    @property
    def work(self) -> float:
        """Layers of all steps of training, roughly."""
        return self.depth * (1 if self.form == "method" else 100)


def plan(config: SparseCodingConfig) -> list[Cell]:
    """List each method in each form."""
    study = config.sparse_coding
    return [
        Cell(
            form,
            key,
            study.iterations if form == "method" else study.depth,
            methods.find(key).recurrence(),
        )
        for form in FORMS
        for key in study.methods
    ]


def make_network(cell: Cell, a: jax.Array, study: Settings) -> Propagation:
    """Build x_0 = 0 and b ↦ x_1, ..., x_K over T with learned weights; GD is LISTA.

    The coefficients of the recurrence, where it has any, are learned, too.
    """
    return Propagation(
        cell.recurrence,
        Shrinkage(a, study.penalty, study.coupled),
        cell.depth,
        tied=cell.form == "tied",
        learned=tuple(cell.recurrence.coefficients(cell.depth)),
    )


def draw_matrix(key: jax.Array, study: Settings) -> jax.Array:
    """Return A, [m, n], Gaussian with columns of length 1."""
    a = jax.random.normal(key, (study.rows, study.columns))
    return a / jnp.linalg.norm(a, axis=0, keepdims=True)


def draw_signals(
    key: jax.Array, a: jax.Array, number: int, study: Settings
) -> tuple[jax.Array, jax.Array]:
    """Return x, [number, n], and b = A x + noise, [number, m]."""
    values, places, noise = jax.random.split(key, 3)
    shape = (number, study.columns)
    x = jax.random.normal(values, shape)
    x = x * jax.random.bernoulli(places, study.support, shape)
    # E ‖A x‖² = support · n, as the columns have length 1.
    power = study.support * study.columns / study.rows * 10 ** (-study.snr_db / 10)
    clean = x @ a.T
    return x, clean + power**0.5 * jax.random.normal(noise, clean.shape)


def error_db(iterates: Any, x: jax.Array) -> jax.Array:
    """Return 10 log10 Σ‖x_k - x‖² / Σ‖x‖² of iterates [K, number, n], [K]."""
    missed = jnp.sum((iterates - x[None]) ** 2, axis=(-2, -1))
    return 10 * jnp.log10(missed / jnp.sum(x**2))


def errors_of(
    network: Propagation, variables: Any, x: jax.Array, b: jax.Array
) -> jax.Array:
    """Return the errors (dB) of x_0 = 0, x_1, ..., x_K, [K + 1]."""
    iterates = network.apply(variables, jnp.zeros_like(x), trajectory=True, b=b)
    return error_db(iterates, x)


def measure(cell: Cell, config: SparseCodingConfig) -> Row:
    """Run, or train, a method for all seeds.

    Returns:
        ``error``, the test errors (dB) after 0, 1, ... layers by seed.

    Raises:
        InputError: a method that diverges, or a network in training.
    """
    study = config.sparse_coding

    def one(seed: jax.Array) -> jax.Array:
        of_matrix, of_test, of_training = jax.random.split(jax.random.key(seed), 3)
        a = draw_matrix(of_matrix, study)
        x, b = draw_signals(of_test, a, study.test_signals, study)
        if cell.form == "method":
            step, x0 = functools.partial(shrinkage(a, study.penalty), b=b), 0 * x
            return error_db(
                iterate(cell.recurrence, step, x0, cell.depth, trajectory=True), x
            )
        network = make_network(cell, a, study)
        return errors_of(network, _train(network, study, of_training, a), x, b)

    # One network after the other: a matrix product for each is slower on a CPU.
    errors = members(one, at_once=False)(jnp.asarray(study.seeds))
    if not np.isfinite(errors).all():
        cure = f"take {cell.method} out of config.sparse_coding.methods"
        if cell.form != "method":  # which has no rate
            rate = f"lower config.sparse_coding.learning_rate={study.learning_rate:g}"
            cure = rate if cell.method == BASELINE else f"{rate} or {cure}"
        raise InputError(
            f"{cell.name}: an error is infinite or NaN: {cure}, with another --workdir"
        )
    return {"error": np.asarray(errors).round(4).tolist()}


def _train(network: Propagation, study: Settings, key: jax.Array, a: jax.Array) -> Any:
    """Train one network with Adam, each step on signals of its own."""
    optimizer = optax.adam(
        optax.cosine_decay_schedule(study.learning_rate, study.steps)
    )

    def loss(variables: Any, step: jax.Array) -> jax.Array:
        own = jax.random.fold_in(key, step)
        return errors_of(
            network, variables, *draw_signals(own, a, study.batch_size, study)
        )[1:].mean()

    x0, b = jnp.zeros((1, study.columns)), jnp.zeros((1, study.rows))
    variables = network.init(key, x0, b=b)
    return fit(jax.value_and_grad(loss), variables, optimizer, (study.steps,))[0]


def conclude(config: SparseCodingConfig, rows: list[Row]) -> Report:
    """Compare the layers of each method with those of GD by seed, and judge.

    The tests of one form are corrected for their number.
    """
    levels = config.sparse_coding.levels_db
    titles = methods.titles(map(methods.find, _usable()))
    compared, found = [], {}
    for form in FORMS:
        layers = [
            (
                {"form": form, "method": row["method"]},
                [verdict.doublings(errors, levels) for errors in by_depth(row)],
            )
            for row in select(rows, form=form)
        ]
        own = verdict.against({"method": BASELINE}, layers)
        compared += own
        found[form] = {
            titles[each["method"]]: verdict.direction(each["verdict"]) for each in own
        }
    own = found.pop("method")
    verdicts = {
        form: verdict.judge(own, found[form], FORMS["method"]) for form in found
    }
    return {"compared": compared, "verdicts": verdicts}


def by_depth(row: Row) -> list[dict[int, float]]:
    """Return depth, from 1 on, -> error (dB), for each seed."""
    return [dict(enumerate(errors[1:], 1)) for errors in row["error"]]


def text(report: Report) -> Iterator[str]:
    """Write the report: the verdicts, and a table for each form."""
    study = report["config"]["sparse_coding"]
    yield "# Does a faster method need fewer layers in sparse coding (§1.2)?"
    weights = "W, θ; V = I - W A" if study["coupled"] else "W, V, θ"
    yield (
        f"b = A x + noise, A {study['rows']} × {study['columns']}, "
        f"{100 * study['support']:g} % of x not 0, {study['snr_db']:g} dB; λ = "
        f"{study['penalty']:g}. Networks of {study['depth']} layers ({weights}), "
        f"{study['steps']} steps of Adam of {study['batch_size']} signals each; "
        f"{len(study['seeds'])} seeds, {study['test_signals']} test signals. GD over T "
        "is ISTA, and LISTA once it is trained; AGD is FISTA."
    )
    yield bullets({FORMS[form]: said for form, said in report["verdicts"].items()})
    yield (
        "Layers until the error is reached: geometric mean over the seeds that reach "
        "it. Beside them, against GD, the factor of the layers (what is not reached "
        f"counts as twice the deepest), and p by {verdict.TESTED} for "
        "the number of tests in the table."
    )
    for form, title in FORMS.items():
        yield f"## {title}"
        rows = select(report["cells"], form=form)
        yield table(rows, _columns(report, rows[0]["depth"]))


def _columns(report: Report, depth: int) -> tuple:
    def against_gd(show: Callable[[Row], str]) -> Callable[[Row], str]:
        return lambda row: verdict.shown(
            report["compared"], show, form=row["form"], method=row["method"]
        )

    return (
        ("method", lambda row: methods.find(row["method"]).label),
        *(
            (f"{level:g} dB", lambda row, level=level: _mean_layers(row, level))
            for level in report["config"]["sparse_coding"]["levels_db"]
        ),
        ("factor", against_gd(lambda each: number(2 ** each["mean"]))),
        ("p", against_gd(lambda each: number(each["p_corrected"]))),
        ("against GD", against_gd(lambda each: verdict.direction(each["verdict"]))),
        (f"dB after {depth}", _last),
    )


def _mean_layers(row: Row, level: float) -> str:
    layers = [verdict.layers_needed(errors, level) for errors in by_depth(row)]
    return verdict.mean_layers(layers, row["depth"])


def _last(row: Row) -> str:
    return with_sd([errors[-1] for errors in row["error"]], 1)


def figures(report: Report) -> dict[str, Figure]:
    """Draw the mean error against the layers, for each form."""
    figure, (axes,) = panels(1, len(FORMS), 4, 4.2, sharey=True)
    for (form, title), axis in zip(FORMS.items(), axes, strict=True):
        for row in select(report["cells"], form=form):
            mean = np.mean(row["error"], axis=0)
            label = methods.find(row["method"]).label
            axis.plot(np.arange(1, len(mean)), mean[1:], label=label)
        axis.set(title=title, xlabel="layers")
    axes[0].set(xscale="log", ylabel="‖x_k - x‖² / ‖x‖², dB")
    return {"sparse_coding": legend(figure)}


STUDY = Study(
    name="sparse_coding",
    config=SparseCodingConfig,
    plan=plan,
    measurement=lambda config: functools.partial(measure, config=config),
    outcome=lambda row: f"{_last(row)} dB",
    text=text,
    figures=figures,
    conclude=conclude,
)
