"""Our side of the comparison: compiled programs, and what the compiler says of them."""

from __future__ import annotations

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

from optnet_jax.training.state import TrainState, create_state
from optnet_jax.training.steps import StepOptions, train_step

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4


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


def optimizer() -> optax.GradientTransformation:
    """Return SGD with Nesterov momentum and L2 in the gradient, as §7.1 trains."""
    return optax.chain(
        optax.add_decayed_weights(WEIGHT_DECAY),
        optax.sgd(LEARNING_RATE, momentum=MOMENTUM, nesterov=True),
    )


def initial_state(network: nn.Module, image_shape: tuple[int, ...]) -> TrainState:
    """Return the state before the first step."""
    return create_state(network, optimizer(), jax.random.key(0), image_shape)


def random_batch(
    count: int, shape: tuple[int, ...], num_classes: int
) -> dict[str, jax.Array]:
    """Return normally distributed images [count, *shape] and uniform labels."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((count, *shape), np.float32)
    labels = rng.integers(0, num_classes, count)
    return {"image": jnp.asarray(images), "label": jnp.asarray(labels)}


def training_step(network: nn.Module) -> Callable[..., tuple[Any, Any]]:
    """Return the training loop's own step: state, batch, key -> state, sums."""
    return functools.partial(
        train_step, module=network, optimizer=optimizer(), options=StepOptions()
    )


def training_program(network: nn.Module, state: TrainState, batch: Any) -> Program:
    """Compile the training loop's own step; each run goes on from the last.

    Args:
      network: the network.
      state: it is copied: the step donates what it gets.
      batch: ``image`` and ``label``.
    """
    key = jax.random.key(0)
    return carried_program(training_step(network), state, batch, key)


def carried_program(
    step: Callable[..., tuple[Any, Any]], state: Any, *arguments: Any
) -> Program:
    """Compile a step; each run goes on from the state that the last one left.

    Args:
      step: state and arguments -> the next state and anything.
      state: the first one; it is copied: the step donates what it gets.
      *arguments: the same in every run.
    """
    compiled, seconds = _compile(jax.jit(step, donate_argnums=0), state, *arguments)
    current = jax.tree.map(jnp.copy, state)

    def run() -> Any:
        nonlocal current
        current, results = compiled(current, *arguments)
        return jax.block_until_ready((current, results))

    return _program(run, compiled, seconds)


def inference_program(network: nn.Module, state: TrainState, images: Any) -> Program:
    """Compile the forward pass with the running statistics."""

    def logits(variables: Any, images: jax.Array) -> Any:
        return network.apply(variables, images, train=False)

    variables = state.eval_variables
    compiled, seconds = _compile(jax.jit(logits), variables, images)
    return _program(
        lambda: jax.block_until_ready(compiled(variables, images)), compiled, seconds
    )


def _compile(function: Any, *arguments: Any) -> tuple[Any, float]:
    start = time.process_time(), time.perf_counter()
    compiled = function.lower(*arguments).compile()
    cpu, wall = time.process_time() - start[0], time.perf_counter() - start[1]
    # On one core the two are one; on several the compiler works in parallel.
    return compiled, min(cpu, wall)


def _program(run: Callable[[], Any], compiled: Any, seconds: float) -> Program:
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    temporary = None if memory is None else int(memory.temp_size_in_bytes)
    return Program(run, seconds, temporary, cost.get("bytes accessed"))
