"""A whole epoch as one device program: shuffling, augmentation and every step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.benchmarks import jax_runs
from optnet_jax.benchmarks.activity import begin
from optnet_jax.benchmarks.suite import Row
from optnet_jax.benchmarks.timing import Spread, ratios, take_turns, timed
from optnet_jax.data.memory import pad_crop_flip
from optnet_jax.networks import create

PAD, REPEATS = 4, 3


def measure(name: str, batch: int, size: int, images: int) -> Row:
    """Time an epoch beside as many steps on a batch that is already there.

    Args:
      name: of the network, computing in bfloat16.
      batch: images a step.
      size: height and width of an image.
      images: of the epoch; random uint8.

    Returns:
      JSON-able: the seconds of the epoch, and the share of them that the steps take.
    """
    begin(f"{name}: an epoch of {images} images as one program")
    network: Any = create(name, dtype=jnp.bfloat16)
    shape, steps = (size, size, 3), images // batch
    rng = np.random.default_rng(0)
    pixels = jnp.asarray(rng.integers(0, 256, (images, *shape), np.uint8))
    labels = jnp.asarray(rng.integers(0, network.num_classes, images))
    state = jax_runs.initial_state(network, shape)
    epoch = _Epoch(jax_runs.training_step(network), steps, batch)
    arguments = (state, pixels, labels, jax.random.key(0))
    programs = {
        "epoch": jax_runs.carried_program(epoch.with_input, *arguments),
        "steps": jax_runs.carried_program(epoch.alone, *arguments),
    }
    runs = {kind: timed(program.run) for kind, program in programs.items()}
    times = take_turns(runs, REPEATS, warm_up=1)
    return {
        "case": f"epoch/{name}-{size}px-b{batch}",
        "steps": steps,
        "seconds": Spread.of(times["epoch"]).median,
        "share": ratios(times["steps"], times["epoch"]).median,
    }


def sentence(row: Row) -> str:
    """Return what :func:`measure` found."""
    return (
        f"An epoch of {row['steps']} steps as one program ({row['case']}): "
        f"{row['seconds']:.2f} s, {100 * row['share']:.1f} % of it in the steps."
    )


@dataclasses.dataclass(frozen=True)
class _Epoch:
    """An epoch's steps with and without what prepares their batches.

    Both map the state, uint8 images, labels and a key to the state and the sums.
    """

    step: Callable[..., tuple[Any, Any]]
    steps: int
    batch: int

    def with_input(
        self, state: Any, pixels: jax.Array, labels: jax.Array, key: jax.Array
    ) -> tuple[Any, Any]:
        """Shuffle, crop and mirror on the way."""
        key = jax.random.fold_in(key, state.step)
        order_key, crop_key, step_key = jax.random.split(key, 3)
        order = jax.random.permutation(order_key, len(labels))

        def one(state: Any, rows: jax.Array) -> tuple[Any, Any]:
            key = jax.random.fold_in(crop_key, state.step)
            crop = functools.partial(pad_crop_flip, pad=PAD, flip=True)
            keys = jax.random.split(key, self.batch)
            images = jax.vmap(crop)(keys, _normalise(pixels[rows]))
            return self.step(state, {"image": images, "label": labels[rows]}, step_key)

        order = order[: self.steps * self.batch].reshape(self.steps, self.batch)
        return jax.lax.scan(one, state, order)

    def alone(
        self, state: Any, pixels: jax.Array, labels: jax.Array, key: jax.Array
    ) -> tuple[Any, Any]:
        """Take the first batch in every step."""
        images = _normalise(pixels[: self.batch])
        batch = {"image": images, "label": labels[: self.batch]}

        def one(state: Any, _: None) -> tuple[Any, Any]:
            return self.step(state, batch, key)

        return jax.lax.scan(one, state, length=self.steps)


def _normalise(pixels: jax.Array) -> jax.Array:
    return pixels.astype(jnp.float32) / 127.5 - 1
