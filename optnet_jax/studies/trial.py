"""Is HB-Net's training more stable than ResNet's (§7.2)? Tried at depths up to 110.

The units are those of §6.1 with dense instead of convolutional layers, so that a CPU
can train many seeds at many rates: x ↦ W' ReLU(W x), with or without batch
normalisation behind each product, between a first layer that takes the image and a
head. ResNet and HB-Net differ in the recurrence alone.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from optnet_jax.recurrences import HeavyBall, Recurrence, iterate, methods
from optnet_jax.studies.cells import Row
from optnet_jax.studies.fit import Step, fit
from optnet_jax.studies.images import Images
from optnet_jax.studies.markdown import number, select
from optnet_jax.studies.panels import legend, panels
from optnet_jax.studies.verdict import SAME, against, difference

STRUCTURES: dict[str, Recurrence] = {
    "ResNet (1, 0), ReLU after the sum": HeavyBall(1, 0, jax.nn.relu),
    "ResNet (1, 0)": methods.find("resnet").recurrence(),
    "HB-Net (1, -1)": methods.find("hb_net").recurrence(),
}
"""(β1, β2) of (16): He's first ResNet, the same without its last ReLU, and HB-Net."""
_, RESNET, HB_NET = STRUCTURES
"""What the verdict compares: they differ in β2 alone."""
KINDS = {False: "without normalisation", True: "with batch normalisation"}


@dataclasses.dataclass(frozen=True)
class Trial:
    """One network and how it is trained: SGD with momentum 0.9, no warm-up.

    Attributes:
        recurrence: the structure.
        depth: weight layers, 2 a unit and 2 around them.
        width: n.
        normalize: batch normalisation behind each product, with the batch's statistics;
            without it W' is drawn smaller by √units, or no structure trains at depth
            56.
    """

    recurrence: Recurrence
    depth: int
    width: int
    normalize: bool

    @property
    def units(self) -> int:
        """The number of units, (depth - 2) / 2."""
        return (self.depth - 2) // 2


def initial_parameters(trial: Trial, key: jax.Array, inputs: int, classes: int) -> Any:
    """Draw the parameters: He normal in the units, Xavier around them."""
    keys = jax.random.split(key, 3)
    n, units = trial.width, trial.units
    kernel = jax.random.normal(keys[0], (units, 2, n, n)) * (2 / n) ** 0.5
    weights: dict[str, Any] = {"kernel": kernel}
    if trial.normalize:
        weights["scale"] = jnp.ones((units, 2, n))
        weights["bias"] = jnp.zeros((units, 2, n))
    else:
        weights["kernel"] = kernel.at[:, 1].multiply(units**-0.5)
    xavier = jax.nn.initializers.xavier_normal()
    return {
        "stem": xavier(keys[1], (inputs, n)),
        "units": weights,
        "head": xavier(keys[2], (n, classes)),
    }


def scaled(params: Any, scale: Any) -> Any:
    """Return the parameters with T multiplied in every unit, by its last factor."""
    units = params["units"]
    last = "scale" if "scale" in units else "kernel"
    own = {**units, last: units[last].at[:, 1].multiply(scale)}
    return {**params, "units": own}


def unit(x: jax.Array, weights: Any) -> jax.Array:
    """Return W' ReLU(W x), each product normalised where there is a scale."""

    def product(x: jax.Array, i: int) -> jax.Array:
        y = x @ weights["kernel"][i]
        if "scale" in weights:
            y = jax.nn.standardize(y, axis=0, epsilon=1e-5)
            y = y * weights["scale"][i][None] + weights["bias"][i][None]
        return y

    return product(jax.nn.relu(product(x, 0)), 1)


def logits(trial: Trial, params: Any, images: jax.Array) -> jax.Array:
    """Return the network's output: images [B, pixels] to [B, classes]."""
    x = iterate(
        trial.recurrence,
        unit,
        jax.nn.relu(images @ params["stem"]),
        trial.units,
        weights=params["units"],
    )
    return jax.nn.relu(x) @ params["head"]


def train(
    trial: Trial,
    images: Images,
    seed: Any,
    rate: Any,
    scale: Any = 1.0,
) -> tuple[Any, Step]:
    """Train one network from scratch.

    Args:
        trial: what is trained.
        images: a batch for each step.
        seed: of the initial parameters.
        rate: the learning rate.
        scale: factor of the initial T, see :func:`scaled`.

    Returns:
        The parameters after the last step, and what each step left behind, [steps]. The
        loss of the last is NaN, too, where the parameters after it are not finite.
    """
    pixels, labels = images.batches
    inputs, classes = pixels.shape[-1], images.classes
    params = initial_parameters(trial, jax.random.key(seed), inputs, classes)
    params = scaled(params, scale)
    optimizer = optax.sgd(rate, momentum=0.9, nesterov=True)

    def loss(params: Any, step: jax.Array) -> jax.Array:
        outputs, own = logits(trial, params, pixels[step]), labels[step]
        return optax.softmax_cross_entropy_with_integer_labels(outputs, own).mean()

    every = range(1, len(pixels) + 1)
    params, found = fit(
        jax.value_and_grad(loss), params, optimizer, every, lambda _, step: step
    )
    finite = jnp.all(
        jnp.array([jnp.isfinite(p).all() for p in jax.tree.leaves(params)])
    )
    last = jnp.where(finite, found.loss[-1], jnp.nan)
    return params, found._replace(loss=found.loss.at[-1].set(last))


def place(row: Row) -> Row:
    """Return what tells a network from the others: ``label, depth, normalize``."""
    return {name: row[name] for name in ("label", "depth", "normalize")}


def compare_all(rows: list[Row]) -> list[Row]:
    """Compare HB-Net with each ResNet, all corrected together.

    Returns:
        For each row of a ResNet its ``label``, ``depth`` and ``normalize``, and the
        comparison by seed, in rates that train: below 0 fewer of HB-Net's fail.
    """
    trained = [
        (place(row), np.sum(np.logical_not(row["failed"]), axis=0).tolist())
        for row in rows
    ]
    return against({"label": HB_NET}, trained)


def judge(rows: list[Row], compared: list[Row], normalize: bool) -> str:
    """Return the verdict on "HB-Net is more stable than ResNet at depth" (§7.2).

    At the greatest depth, against ResNet with the same activation: supported if fewer
    of HB-Net's runs fail (exact sign-flip test over the seeds at 5 %, corrected for all
    comparisons), reversed if more do.
    """
    deepest = {"depth": max(row["depth"] for row in rows), "normalize": normalize}
    (found,) = select(compared, **deepest, label=RESNET)
    said = found["verdict"]  # that itself, where it cannot tell
    heads = {"better": "supported", "worse": "reversed", SAME: "not supported"}
    ours, theirs = (
        count_failed(row)
        for label in (HB_NET, RESNET)
        for row in select(rows, **deepest, label=label)
    )
    return (
        f"{heads.get(said, said)}: of runs with {deepest['depth']} layers {ours} of "
        f"HB-Net's and {theirs} of ResNet's with the same activation fail (p = "
        f"{found['p_corrected']:.2g}, corrected for {len(compared)} tests)"
    )


def median_loss(row: Row) -> np.ndarray:
    """Return the median over the seeds of the final loss, ∞ where diverged: [rates]."""
    loss = np.array(row["final_loss"], float)
    return np.median(np.where(np.isfinite(loss), loss, np.inf), axis=1)


def largest_rates(row: Row, rates: Sequence[float]) -> np.ndarray:
    """Return the largest of the rates up to which every rate trains: [seeds].

    It is 0 where the smallest fails.
    """
    ascending = np.argsort(rates)
    trains = np.cumprod(~np.array(row["failed"], bool)[ascending], axis=0).sum(0)
    return np.array([0.0, *np.take(rates, ascending)])[trains]


def count_failed(row: Row) -> str:
    """Return how many runs failed, of how many."""
    return f"{np.sum(row['failed'])}/{np.size(row['failed'])}"


def columns(report: dict[str, Any]) -> tuple:
    """Return the columns of a table of rows, of a report with ``config.trial``."""
    rates = report["config"]["trial"]["learning_rates"]

    def least_loss(row: Row) -> str:
        loss = median_loss(row)
        least = int(np.argmin(loss))
        return f"{number(loss[least])} @ {rates[least]:g}"

    def largest_rate(row: Row) -> str:
        return number(_median(largest_rates(row, rates)) or None)

    def compared(row: Row) -> str:
        return difference(report["compared"], "+.2f", **place(row))

    return (
        ("layers, structure", lambda row: f"{row['depth']}, {row['label']}"),
        ("first gradient", lambda row: number(_median(row["first_gradient_norm"]))),
        ("largest rate that trains", largest_rate),
        ("least loss @ rate", least_loss),
        ("failed", count_failed),
        ("not finite", lambda row: str(np.sum(row["diverged"]))),
        ("HB-Net fails at", compared),
    )


def _median(values: Any) -> float:
    return float(np.median(np.array(values, float)))


def draw(report: dict[str, Any]) -> Figure:
    """Draw the final loss against the learning rate, a panel for each depth."""
    settings = report["config"]["trial"]
    rates, depths = settings["learning_rates"], settings["depths"]
    both = settings["normalize"]
    top = 1.5 * settings["failed_above"]  # a loss that is larger is drawn there
    # At least as wide as the legend.
    width = max(4, 7.5 / len(depths))
    figure, axes = panels(len(both), len(depths), width, 3, sharex=True, sharey=True)
    for row in select(report["cells"], part="trial"):
        axis = axes[both.index(row["normalize"]), depths.index(row["depth"])]
        loss = np.array(row["final_loss"], float)
        capped = np.where(np.isfinite(loss), loss, np.inf).clip(max=top)
        low, middle, high = np.quantile(capped, (0.25, 0.5, 0.75), axis=1)
        axis.plot(rates, middle, marker=".", label=row["label"])
        axis.fill_between(rates, low, high, alpha=0.2)
        kind = "with" if row["normalize"] else "without"
        axis.set(title=f"{row['depth']} layers, {kind} BN", xscale="log")
    for axis in axes.flat:
        axis.axhline(settings["failed_above"], color="black", linewidth=0.8)
    figure.supxlabel("learning rate")
    figure.supylabel(f"final loss, {top:g} where it is larger or diverged")
    return legend(figure, "upper center", 3)
