"""The line (s, -1): x_{k+1} = s x_k - x_{k-1} + T(x_k), reversible by sums for any s.

For |s| < 2 the roots of ρ² - s ρ + 1 are e^{±iφ}, s = 2 cos φ: nothing is amplified,
nothing forgotten, and with T = 0 the iterates have the period 2π/φ: 4, 6 and 8 for
s = 0, 1 (HB-Net) and √2, and none for s = 2 (leapfrog), where they may grow like k. An
impulse of a layer is there j layers later as sin(jφ)/sin φ; in ResNet, (1, 0), which
differs in nothing but the coefficients, as 1.

The networks are those of :mod:`.trial`. Rate and scale of the initial T are chosen for
each by its loss of training, with seeds that are not used again.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from optnet_jax.configuration import Block
from optnet_jax.configuration.train import Count, Data, Seed
from optnet_jax.errors import InputError
from optnet_jax.kinds import Range
from optnet_jax.recurrences import HeavyBall, iterate
from optnet_jax.studies import kinds
from optnet_jax.studies import trial as trials
from optnet_jax.studies.cells import Row
from optnet_jax.studies.fit import in_parts, tune
from optnet_jax.studies.images import Images, OnImages, load
from optnet_jax.studies.markdown import (
    bullets,
    number,
    ratio,
    select,
    table,
    with_sd,
)
from optnet_jax.studies.panels import legend, panels
from optnet_jax.studies.roots import characteristic_roots
from optnet_jax.studies.study import Report, Study, StudyConfig
from optnet_jax.studies.trial import KINDS
from optnet_jax.studies.verdict import TESTED, against, mark, p_value

BASELINE = "ResNet (1, 0)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Block, path="line."):
    """``config.line``."""

    s: Annotated[
        tuple[Annotated[float, Range(least=-2, most=2)], ...],
        kinds.SOME,
        kinds.printed_apart(".3g"),
    ]
    depths: kinds.WeightDepths
    width: kinds.Size
    normalize: kinds.Normalize
    learning_rates: kinds.Rates
    scales: kinds.Factors
    tuning_seeds: kinds.Seeds
    seeds: kinds.Seeds
    steps: Count

    def check(self) -> None:
        """Refuse seeds for both purposes."""
        if both := set(self.seeds) & set(self.tuning_seeds):
            raise InputError(
                f"config.line.seeds has {min(both)}, a tuning seed: structures are "
                "compared by seeds that chose nothing"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LineConfig(StudyConfig):
    """The fields of ``configs/line.py``, which says what each is."""

    seed: Seed
    line: Settings
    data: Data


@dataclasses.dataclass(frozen=True)
class Cell:
    """A structure at a depth, all its rates, scales and seeds.

    Attributes:
        label: how tables name the structure.
        recurrence: it.
        depth: weight layers.
        normalize: with batch normalisation.
    """

    label: str
    recurrence: HeavyBall
    depth: int
    normalize: bool

    @property
    def name(self) -> str:
        """The structure, its depth and its kind."""
        return f"{'normalized ' * self.normalize}{self.label} depth{self.depth}"

    @property
    def work(self) -> float:
        """Weight layers."""
        return self.depth


def plan(config: LineConfig) -> list[Cell]:
    """List every structure at every depth, with and without normalisation."""
    line = {f"({s:.3g}, -1)": HeavyBall(s, -1) for s in config.line.s}
    structures = {BASELINE: HeavyBall(1, 0), **line}
    return [
        Cell(*structure, depth, normalize)
        for normalize in config.line.normalize
        for depth in sorted(config.line.depths)
        for structure in structures.items()
    ]


def measurement(config: LineConfig) -> Callable[[Cell], Row]:
    """Return the function that measures a cell; images and programs are made once."""
    images = load(config.data, config.seed, config.line.steps)
    programs = functools.cache(functools.partial(make_programs, config.line, images))
    return OnImages(
        lambda cell: measure(cell, config, *programs(cell.depth, cell.normalize)),
        images.fingerprint,
    )


def measure(cell: Cell, config: LineConfig, train: Callable, norms: Callable) -> Row:
    """Choose rate and scale, train every seed with them, and test.

    Returns:
        The mean loss of the last tenth of the steps of all that was tried,
        [scales][rates][tuning seeds]; the scale and the rate whose worst seed has the
        least; by seed the same loss and the test error (%), of normalised networks with
        the statistics of the test set, 100 where the loss is not finite; the period of
        T = 0; and the norms.
    """
    study = config.line
    grid = study.scales, study.learning_rates
    chosen, tuned = tune(
        lambda tried: train(cell.recurrence, tried)[0],
        grid,
        study.tuning_seeds,
        worst,
    )
    loss, error = train(cell.recurrence, [(*chosen, s) for s in study.seeds])
    # The class of NaN is the first, of which the labels have their share.
    error = np.where(np.isfinite(loss), error, 100.0)
    signal, gradient = norms(cell.recurrence)
    return {
        "period": characteristic_roots(cell.recurrence).period,
        "tuned": tuned.tolist(),
        "scale": chosen[0],
        "learning_rate": chosen[1],
        "loss": loss.tolist(),
        "error": error.tolist(),
        "signal": signal.tolist(),
        "gradient": gradient.tolist(),
    }


def worst(tuned: Any) -> np.ndarray:
    """Return the largest over the last axis, the seeds; what is not finite is large."""
    tuned = np.asarray(tuned, float)
    return np.where(np.isfinite(tuned), tuned, np.inf).max(-1)


def make_programs(
    study: Settings, images: Images, depth: int, normalize: bool
) -> tuple[Callable, Callable]:
    """Compile training and norms once for all structures of a depth.

    Returns:
        A recurrence and runs, (scale, rate, seed) each -> their losses and test errors;
        and a recurrence -> root mean squares of x_k and dL/dx_k, k = 0..K, before
        training, over all seeds. L is the loss of the first batch. What is added to T
        in layer k moves x_{k+1} and nothing else: its gradient is that of x_{k+1}.
    """

    def trial_of(beta1: Any, beta2: Any) -> trials.Trial:
        return trials.Trial(HeavyBall(beta1, beta2), depth, study.width, normalize)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, None, 0, 0, 0))
    def train_one(beta1: Any, beta2: Any, scale: Any, rate: Any, seed: Any) -> tuple:
        trial, (pixels, labels) = trial_of(beta1, beta2), images.test
        params, found = trials.train(trial, images, seed, rate, scale)
        missed = trials.logits(trial, params, pixels).argmax(-1) != labels
        last = max(1, study.steps // 10)
        return found.loss[-last:].mean(), 100 * missed.mean()

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, None, 0))
    def norms_of_one(beta1: Any, beta2: Any, seed: jax.Array) -> tuple:
        trial = trial_of(beta1, beta2)
        pixels, labels = (each[0] for each in images.batches)
        key, inputs = jax.random.key(seed), pixels.shape[-1]
        params = trials.initial_parameters(trial, key, inputs, images.classes)

        def loss(x0: jax.Array, added: jax.Array) -> tuple:
            xs = iterate(
                trial.recurrence,
                lambda x, layer: trials.unit(x, layer[0]) + layer[1],
                x0,
                trial.units,
                weights=(params["units"], added),
                trajectory=True,
            )
            logits = jax.nn.relu(xs[-1]) @ params["head"]
            each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return each.mean(), xs

        x0 = jax.nn.relu(pixels @ params["stem"])
        zeros = jnp.zeros((trial.units, *x0.shape))
        (of_x0, of_others), xs = jax.grad(loss, (0, 1), has_aux=True)(x0, zeros)
        return xs, jnp.concatenate([of_x0[None], of_others])

    def train(recurrence: HeavyBall, runs: Sequence[tuple]) -> tuple:
        own = functools.partial(train_one, recurrence.beta1, recurrence.beta2)
        return in_parts(own, runs, len(study.seeds))

    def norms(recurrence: HeavyBall) -> list[np.ndarray]:
        seeds = jnp.asarray(study.seeds)
        found = norms_of_one(recurrence.beta1, recurrence.beta2, seeds)
        return [np.sqrt((np.asarray(x, float) ** 2).mean((0, 2, 3))) for x in found]

    return train, norms


def conclude(config: LineConfig, rows: list[Row]) -> Report:
    """Compare every s with ResNet at each depth, and say what was found.

    The tests of one table, with or without normalisation, are corrected for their
    number.
    """
    compared, verdicts = [], {}
    for normalize in config.line.normalize:
        own = against(
            {"label": BASELINE},
            [
                (trials.place(row), row["error"])
                for row in select(rows, normalize=normalize)
            ],
        )
        compared += own
        verdicts[KINDS[normalize]] = {
            label: _verdict([row["verdict"] for row in select(own, label=label)])
            for label in dict.fromkeys(row["label"] for row in own)
        }
    return {"compared": compared, "verdicts": verdicts}


def _verdict(found: list[str]) -> str:
    if found[0].startswith("cannot tell"):
        return found[0]
    return (
        f"lower error than {BASELINE} at {found.count('better')}, higher at "
        f"{found.count('worse')} of {len(found)} depths"
    )


def text(report: Report) -> Iterator[str]:
    """Write the report: verdicts and a table with and without normalisation."""
    config, study = report["config"], report["config"]["line"]
    yield "# The line (s, -1)"
    yield (
        f"x_(k+1) = s x_k - x_(k-1) + T(x_k), dense units of width {study['width']}, "
        f"{study['steps']} steps on {config['data']['dataset']}; rate and scale of the "
        f"initial T chosen by the loss of training with "
        f"{len(study['tuning_seeds'])} seeds, compared with {len(study['seeds'])} "
        f"others. ↓ and ↑: lower and higher error than {BASELINE}, p ≤ 0.05 by "
        f"{TESTED} for the number of tests in the table."
    )

    columns = (
        ("layers, structure", lambda row: f"{row['depth']}, {row['label']}"),
        ("period", lambda row: number(row["period"], ".3g")),
        ("signal", lambda row: ratio(row["signal"][-1], row["signal"][0])),
        ("gradient", lambda row: ratio(row["gradient"][0], row["gradient"][-1])),
        *(
            (f"loss, g = {g:g}", lambda row, i=i: number(worst(row["tuned"])[i].min()))
            for i, g in enumerate(study["scales"])
        ),
        ("g, rate", lambda row: f"{row['scale']:g}, {row['learning_rate']:g}"),
        (
            "test error, %",
            lambda row: (
                with_sd(row["error"], 2)
                + mark(report["compared"], **trials.place(row))
                + (f" †{lost}" if (lost := row["loss"].count(None)) else "")
            ),
        ),
        ("p", lambda row: p_value(report["compared"], **trials.place(row)) or "-"),
    )
    for normalize in study["normalize"]:
        yield f"## {KINDS[normalize].capitalize()}"
        yield bullets(report["verdicts"][KINDS[normalize]])
        yield table(select(report["cells"], normalize=normalize), columns)
    yield (
        "Signal: root mean square of x_K over that of x_0; gradient: of x_0's over "
        "x_K's, both before training, g = 1. Loss: the least over the rates of the "
        "worst tuning seed's, where T is multiplied by g to begin with. †: seeds that "
        "diverged, each an error of 100 %."
    )


def figures(report: Report) -> dict[str, Figure]:
    """Draw signal and gradient of the deepest over the layers, error over the depth."""
    study, rows = report["config"]["line"], report["cells"]
    figure, axes = panels(len(study["normalize"]), 3, 3.7, 3.4)
    for (signal, gradient, error), normalize in zip(
        axes, study["normalize"], strict=True
    ):
        of_kind = select(rows, normalize=normalize)
        for label in dict.fromkeys(row["label"] for row in of_kind):
            own = select(of_kind, label=label)
            for axis, name, to in ((signal, "signal", 0), (gradient, "gradient", -1)):
                values = np.array(own[-1][name], float)
                axis.semilogy(values / values[to], label=label)
            depths, errors = zip(*((r["depth"], r["error"]) for r in own), strict=True)
            spread = np.std(errors, 1, ddof=1) if len(study["seeds"]) > 1 else None
            error.errorbar(
                depths, np.mean(errors, 1), spread, marker=".", capsize=3, label=label
            )
        signal.set(title=f"signal, {KINDS[normalize]}", xlabel="unit k")
        gradient.set(title="gradient, x_k's over x_K's", xlabel="unit k")
        error.set(title="test error, %", xlabel="weight layers", xticks=depths)
    return {"line": legend(figure, columns=len(axes[0, 0].lines))}


STUDY = Study(
    name="line",
    config=LineConfig,
    plan=plan,
    measurement=measurement,
    outcome=lambda row: (
        f"{with_sd(row['error'], 2)} % at rate {row['learning_rate']:g}, scale "
        f"{row['scale']:g}"
    ),
    text=text,
    figures=figures,
    conclude=conclude,
)
