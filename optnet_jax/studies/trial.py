"""Is HB-Net's training more stable than ResNet's (§7.2)? Tried at depths up to 110.

The units are those of §6.1 with dense instead of convolutional layers, so that a CPU
can train many seeds at many rates: x ↦ W' ReLU(W x), with or without batch
normalisation behind each product, between a first layer that takes the image and a
head. ResNet and HB-Net differ in the recurrence alone.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optnet_jax.recurrences import HeavyBall, Recurrence, iterate, methods

STRUCTURES: dict[str, Recurrence] = {
    "ResNet (1, 0), ReLU after the sum": HeavyBall(1, 0, jax.nn.relu),
    "ResNet (1, 0)": methods.find("resnet").recurrence(),
    "HB-Net (1, -1)": methods.find("hb_net").recurrence(),
}
"""(β1, β2) of (16): He's first ResNet, the same without its last ReLU, and HB-Net."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One network and how it is trained: SGD with momentum 0.9, no warm-up.

    Attributes:
      recurrence: the structure.
      depth: weight layers, 2 a unit and 2 around them.
      width: n.
      normalize: batch normalisation behind each product, with the batch's statistics;
        without it W' is drawn smaller by √units, or no structure trains at depth 56.
      steps: of training.
    """

    recurrence: Recurrence
    depth: int
    width: int
    normalize: bool
    steps: int

    @property
    def units(self) -> int:
        """The number of units, (depth - 2) / 2."""
        return (self.depth - 2) // 2


class Outcome(NamedTuple):
    """What a run left behind.

    Attributes:
      loss: cross-entropy at each step, of the batch before the update. [steps]
      gradient_norm: the norm of the gradient of all parameters. [steps]
    """

    loss: jax.Array
    gradient_norm: jax.Array


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
    trial: Trial, images: jax.Array, labels: jax.Array, seed: Any, rate: Any
) -> Outcome:
    """Train one network from scratch.

    Args:
      trial: what is trained.
      images: a batch for each step. [steps, B, pixels]
      labels: [steps, B]
      seed: of the initial parameters.
      rate: the learning rate.
    """
    params = initial_parameters(trial, jax.random.key(seed), images.shape[-1], 10)
    optimizer = optax.sgd(rate, momentum=0.9, nesterov=True)

    def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        outputs = logits(trial, params, images)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()

    def update(state: tuple, batch: tuple) -> tuple:
        params, memory = state
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, memory = optimizer.update(gradient, memory, params)
        params = optax.apply_updates(params, updates)
        return (params, memory), Outcome(value, optax.tree.norm(gradient))

    _, outcome = jax.lax.scan(
        update, (params, optimizer.init(params)), (images, labels)
    )
    return outcome


def run(
    trial: Trial,
    images: jax.Array,
    labels: jax.Array,
    seeds: jax.Array,
    rates: jax.Array,
) -> Outcome:
    """Train every seed at every rate, in one program.

    Args:
      trial: what is trained.
      images: [steps, B, pixels]
      labels: [steps, B]
      seeds: [seeds]
      rates: [rates]

    Returns:
      The outcome, with leading axes [rates, seeds].
    """

    def one(seed: jax.Array, rate: jax.Array) -> Outcome:
        return train(trial, images, labels, seed, rate)

    by_seed = jax.vmap(one, (0, None))
    return jax.jit(jax.vmap(by_seed, (None, 0)))(seeds, rates)
