"""Training of small networks, many seeds and learning rates in one program."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

SLICE = 500
"""Samples of a slice: of §5.3's 40 layers in 100 dimensions it keeps 8 MB."""

Loss = Callable[[Any, jax.Array, jax.Array], jax.Array]
Slope = Callable[[Any, jax.Array], tuple[jax.Array, Any]]


class Step(NamedTuple):
    """What the last step of training left behind.

    Attributes:
        loss: before the update.
        gradient_norm: of the gradient of all parameters.
    """

    loss: jax.Array
    gradient_norm: jax.Array


def fit(
    slope: Slope,
    params: Any,
    optimizer: optax.GradientTransformation,
    checkpoints: Sequence[int],
    measure: Callable[[Any, Step], Any] = lambda params, step: (),
) -> tuple[Any, Any]:
    """Take steps of an optimiser, and measure on the way.

    Args:
        slope: (params, number of the step, from 0 on) → the loss and its gradient.
        params: to begin with.
        optimizer: the update rule.
        checkpoints: the steps after which ``measure`` is called, increasing; training
            ends at the last.
        measure: the parameters, and what the step left → a pytree of arrays.

    Returns:
        The parameters after the last step, and what ``measure`` returned, with a
        leading axis of the checkpoints.
    """

    def step(number: jax.Array, state: tuple) -> tuple:
        params, memory, _ = state
        loss, gradient = slope(params, number)
        updates, memory = optimizer.update(gradient, memory, params)
        left = Step(loss, optax.tree.norm(gradient))
        return optax.apply_updates(params, updates), memory, left

    def to_checkpoint(state: tuple, span: tuple) -> tuple:
        start, stop = span
        # The bounds are traced, so the step is compiled once for all checkpoints.
        state = lax.fori_loop(start, stop, step, state)
        return state, measure(state[0], state[2])

    stops = jnp.asarray([*checkpoints])
    starts = jnp.concatenate([jnp.zeros_like(stops[:1]), stops[:-1]])
    none = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(step, 0, (params, optimizer.init(params), None))[2],
    )
    state = params, optimizer.init(params), none
    (params, *_), found = lax.scan(to_checkpoint, state, (starts, stops))
    return params, found


def on_pairs(
    apply: Callable[[Any, jax.Array], jax.Array],
    pairs: tuple[jax.Array, jax.Array],
    batch_size: int,
) -> Slope:
    """Return the slope of mean (apply(params, x) - f)² over samples and dimensions.

    The samples are taken for independent draws, so the batches are consecutive slices
    of the inputs x and targets f, [samples, ...] each; what is left over at the end of
    them is not seen.
    """
    batches = len(pairs[0]) // batch_size

    def loss(params: Any, x: jax.Array, f: jax.Array) -> jax.Array:
        return jnp.mean((apply(params, x) - f) ** 2)

    def slope(params: Any, number: jax.Array) -> tuple[jax.Array, Any]:
        start = number % batches * batch_size
        x, f = (lax.dynamic_slice_in_dim(a, start, batch_size) for a in pairs)
        return loss_and_gradient(loss, params, x, f)

    return slope


def members(train: Callable[..., Any], at_once: bool = True) -> Callable[..., Any]:
    """Return one jitted program that trains several members, such as seeds and rates.

    Args:
        train: the training of one member.
        at_once: vectorised over the members, which pays for small batches; otherwise
            one after another, for batches that fill the device or its cache by
            themselves.

    Returns:
        ``train`` whose arguments and results have a leading axis of the members.
    """
    if at_once:
        return jax.jit(jax.vmap(train))
    return jax.jit(lambda *arguments: lax.map(lambda each: train(*each), arguments))


def in_parts(program: Callable[..., Any], runs: Sequence[tuple], at_once: int) -> Any:
    """Call a program of so many members for any number, and join what it returns.

    Args:
        program: arrays with a leading axis of members → a pytree of such arrays.
        runs: the arguments of each member; the last fills up the last part.
        at_once: the members of the program.
    """
    runs_and_more = [*runs, *[runs[-1]] * (-len(runs) % at_once)]
    found = [
        program(*(jnp.asarray(each) for each in zip(*part, strict=True)))
        for part in zip(*[iter(runs_and_more)] * at_once, strict=True)
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(runs)], *found)


def tune(
    train: Callable[[Sequence[tuple]], Any],
    grid: Sequence[Sequence[float]],
    seeds: Sequence[int],
    score: Callable[[np.ndarray], np.ndarray],
) -> tuple[tuple[float, ...], np.ndarray]:
    """Train at every point of a grid with the tuning seeds, and choose one.

    Args:
        train: members, each the values of a point and a seed → a number of each.
        grid: the values that are tried.
        seeds: others than those that are reported.
        score: numbers [*grid, seeds] → [*grid]; the least is chosen.

    Returns:
        The values that are chosen, and the numbers.
    """
    found = np.asarray(train(list(itertools.product(*grid, seeds))))
    found = found.reshape([*map(len, grid), -1])
    at = np.unravel_index(np.argmin(score(found)), found.shape[:-1])
    chosen = tuple(values[int(i)] for values, i in zip(grid, at, strict=True))
    return chosen, found


def loss_and_gradient(
    loss: Loss, params: Any, inputs: jax.Array, targets: jax.Array
) -> tuple[jax.Array, Any]:
    """Return the loss and ∂loss/∂params, on a CPU as the means of those of slices.

    A deep structure keeps every layer's output for its backward pass; of 10,000 samples
    they lie in memory, of a slice in the cache. An accelerator takes the batch as a
    whole, as does a CPU a batch that is no multiple of :data:`SLICE`. The loss is a
    mean over the samples, the first axis of ``inputs`` and ``targets``.
    """
    whole = jax.value_and_grad(loss)
    if inputs.shape[0] % SLICE or inputs.shape[0] == SLICE:
        return whole(params, inputs, targets)

    def sliced(params: Any, *arrays: jax.Array) -> Any:
        slices = tuple(a.reshape(-1, SLICE, *a.shape[1:]) for a in arrays)

        def add(total: Any, part: tuple[jax.Array, ...]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, whole(params, *part)), None

        none = jnp.zeros((), inputs.dtype), jax.tree.map(jnp.zeros_like, params)
        total, _ = lax.scan(add, none, slices)
        return jax.tree.map(lambda each: each / len(slices[0]), total)

    return lax.platform_dependent(params, inputs, targets, cpu=sliced, default=whole)
