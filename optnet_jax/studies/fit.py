"""Training of small networks, many seeds and learning rates in one program."""

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


def fit(
    apply: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    pairs: tuple[jax.Array, jax.Array],
    *,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    checkpoints: tuple[int, ...],
    measure: Callable[[Any], Any],
) -> Any:
    """Minimise mean (apply(params, x) - f)² over samples and dimensions.

    The samples are taken for independent draws, so the batches are consecutive slices,
    each sample once an epoch.

    Args:
        apply: (params, inputs) → outputs.
        params: to begin with.
        pairs: inputs x and targets f, [samples, ...] each.
        optimizer: the update rule.
        batch_size: samples of a step; what is left over at the end of them is not seen.
        checkpoints: the steps after which ``measure`` is called, increasing; training
            ends at the last.
        measure: params → a pytree of arrays.

    Returns:
        What ``measure`` returned, with a leading axis of the checkpoints.
    """
    batches = len(pairs[0]) // batch_size

    def loss(params: Any, x: jax.Array, f: jax.Array) -> jax.Array:
        return jnp.mean((apply(params, x) - f) ** 2)

    def step(number: jax.Array, state: tuple) -> tuple:
        params, memory = state
        start = number % batches * batch_size
        x, f = (lax.dynamic_slice_in_dim(a, start, batch_size) for a in pairs)
        updates, memory = optimizer.update(gradient(loss, params, x, f), memory, params)
        return optax.apply_updates(params, updates), memory

    def to_checkpoint(state: tuple, span: tuple) -> tuple:
        start, stop = span
        # The bounds are traced, so the step is compiled once for all checkpoints.
        state = lax.fori_loop(start, stop, step, state)
        return state, measure(state[0])

    stops = jnp.asarray(checkpoints)
    starts = jnp.concatenate([jnp.zeros_like(stops[:1]), stops[:-1]])
    state = params, optimizer.init(params)
    return lax.scan(to_checkpoint, state, (starts, stops))[1]


class Steps(NamedTuple):
    """What training left behind at each step.

    Attributes:
        loss: before the update. [steps]
        gradient_norm: of the gradient of all parameters. [steps]
    """

    loss: jax.Array
    gradient_norm: jax.Array


def descend(
    loss: Callable[[Any, Any], jax.Array],
    params: Any,
    optimizer: optax.GradientTransformation,
    draws: Any,
) -> tuple[Any, Steps]:
    """Take a step of the optimiser for each draw.

    Args:
        loss: (params, draw) → scalar.
        params: to begin with.
        optimizer: the update rule.
        draws: what the steps differ in, [steps, ...] each.

    Returns:
        The parameters after the last step, and what the steps left behind.
    """

    def step(state: tuple, draw: Any) -> tuple:
        params, memory = state
        value, slope = jax.value_and_grad(loss)(params, draw)
        updates, memory = optimizer.update(slope, memory, params)
        state = optax.apply_updates(params, updates), memory
        return state, Steps(value, optax.tree.norm(slope))

    (params, _), steps = lax.scan(step, (params, optimizer.init(params)), draws)
    return params, steps


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


def best(scores: Any, *grid: Sequence[float]) -> tuple[float, ...]:
    """Return the values of a grid that have the least score, [len(values), ...]."""
    at = np.unravel_index(np.argmin(scores), [len(values) for values in grid])
    return tuple(values[int(i)] for values, i in zip(grid, at, strict=True))


def gradient(loss: Loss, params: Any, inputs: jax.Array, targets: jax.Array) -> Any:
    """Return ∂loss/∂params, on a CPU as the mean of the slices' gradients.

    A deep structure keeps every layer's output for its backward pass; of 10,000 samples
    they lie in memory, of a slice in the cache. An accelerator takes the batch as a
    whole, as does a CPU a batch that is no multiple of :data:`SLICE`. The loss is a
    mean over the samples, the first axis of ``inputs`` and ``targets``.
    """
    whole = jax.grad(loss)
    if inputs.shape[0] % SLICE or inputs.shape[0] == SLICE:
        return whole(params, inputs, targets)

    def sliced(params: Any, *arrays: jax.Array) -> Any:
        slices = tuple(a.reshape(-1, SLICE, *a.shape[1:]) for a in arrays)

        def add(total: Any, part: tuple[jax.Array, ...]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, whole(params, *part)), None

        total, _ = lax.scan(add, jax.tree.map(jnp.zeros_like, params), slices)
        return jax.tree.map(lambda g: g / len(slices[0]), total)

    return lax.platform_dependent(params, inputs, targets, cpu=sliced, default=whole)
