"""Compiled programs: what they take, and what the compiler says of them."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from optnet_jax.training.steps import StepOptions, TrainState, create_state, train_step

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4
OPTIMIZER = optax.chain(
    optax.add_decayed_weights(WEIGHT_DECAY),
    optax.sgd(LEARNING_RATE, momentum=MOMENTUM, nesterov=True),
)
"""SGD with Nesterov momentum and L2 in the gradient, as §7.1 trains."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
        run: runs it once and waits for it.
        compile_seconds: lowering and compiling, without any cache.
        temporary_bytes: what it needs beyond its arguments and results, as the compiler
            plans it; None where the backend does not say.
        bytes_accessed: read and written by its operations, as the compiler counts them,
            or None.
    """

    run: Callable[[], Any]
    compile_seconds: float
    temporary_bytes: int | None
    bytes_accessed: float | None


def start(
    network: nn.Module, image_shape: tuple[int, ...], count: int
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Return the state before the first step, and a batch of noise.

    Args:
        network: the network.
        image_shape: (H, W, C).
        count: images of the batch.
    """
    state = create_state(network, OPTIMIZER, jax.random.key(0), image_shape)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((count, *image_shape), np.float32)
    labels = rng.integers(0, network.num_classes, count)  # pyright: ignore
    return state, {"image": jnp.asarray(images), "label": jnp.asarray(labels)}


def training_program(network: nn.Module, state: TrainState, batch: Any) -> Program:
    """Compile the training loop's own step."""
    step = functools.partial(
        train_step, module=network, optimizer=OPTIMIZER, options=StepOptions()
    )
    return carried_program(step, state, batch, jax.random.key(0))


def carried_program(
    step: Callable[..., tuple[Any, Any]], state: Any, *arguments: Any
) -> Program:
    """Compile a step; each run goes on from the state that the last one left.

    Args:
        step: state and arguments -> the next state and anything.
        state: the first one; it is copied: the step donates what it gets.
        *arguments: the same in every run.
    """
    current = jax.tree.map(jnp.copy, state)

    def run(compiled: Any) -> Any:
        nonlocal current
        current, results = compiled(current, *arguments)
        return current, results

    return _compile(jax.jit(step, donate_argnums=0), (state, *arguments), run)


def inference_program(network: nn.Module, state: TrainState, images: Any) -> Program:
    """Compile the forward pass with the running statistics."""
    function = jax.jit(functools.partial(network.apply, train=False))
    arguments = (state.eval_variables, images)
    return _compile(function, arguments, lambda compiled: compiled(*arguments))


def _compile(function: Any, arguments: tuple, run: Callable[[Any], Any]) -> Program:
    cpu, wall = time.process_time(), time.perf_counter()
    compiled = function.lower(*arguments).compile()
    # On one core the two are one; on several the compiler works in parallel.
    seconds = min(time.process_time() - cpu, time.perf_counter() - wall)
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    temporary = None if memory is None else int(memory.temp_size_in_bytes)
    return Program(
        lambda: jax.block_until_ready(run(compiled)),
        seconds,
        temporary,
        cost.get("bytes accessed"),
    )
