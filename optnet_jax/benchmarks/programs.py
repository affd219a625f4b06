"""Compiled programs: what they take, and what the compiler says of them."""

import contextlib
import dataclasses
import functools
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from optnet_jax.benchmarks.suite import Row
from optnet_jax.benchmarks.timing import (
    other_process,
    ratios,
    spread,
    take_turns,
    timed,
)
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


def time_programs(
    programs: Mapping[str, Program],
    repeats: int,
    torch: Mapping[str, Callable[[], float]],
) -> dict[str, Row]:
    """Time programs, and PyTorch's of the same name, in turns.

    Args:
        programs: by name.
        repeats: timed rounds.
        torch: PyTorch's, see :func:`torch_process`.

    Returns:
        name -> ``ours``, a spread of seconds, and what the compiler says; beside
        PyTorch also ``torch`` and ``ratio``, its time by ours.
    """
    functions: dict[Any, Callable[[], float]] = {}
    for name, program in programs.items():
        functions[name, "ours"] = timed(program.run)
        if name in torch:
            functions[name, "torch"] = torch[name]
    times = take_turns(functions, repeats)
    rows: dict[str, Row] = {}
    for name, program in programs.items():
        ours, torchs = times[name, "ours"], times.get((name, "torch"))
        rows[name] = {
            "ours": spread(ours),
            "compile_seconds": program.compile_seconds,
            "temporary_bytes": program.temporary_bytes,
            "bytes_accessed": program.bytes_accessed,
        }
        if torchs:
            rows[name] |= {"torch": spread(torchs), "ratio": ratios(torchs, ours)}
    return rows


def has_torch() -> bool:
    """Return whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


@contextlib.contextmanager
def torch_process(
    make: str, outputs: Callable[[], Any], *arguments: Any
) -> Iterator[Mapping[str, Callable[[], float]]]:
    """Have PyTorch's process ready, for as long as the context lasts.

    Args:
        make: the function of :mod:`.torch_twins` that makes its runs of the device,
            "cpu" or "cuda", our outputs and the arguments.
        outputs: returns what we compute.
        *arguments: further ones.

    Yields:
        As :func:`~.timing.other_process`; nothing where PyTorch is not installed.

    Raises:
        InputError: PyTorch computes something else.
    """
    if not has_torch():
        yield {}
        return
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    make = f"optnet_jax.benchmarks.torch_twins:{make}"
    with other_process(make, device, outputs(), *arguments) as runs:
        yield runs


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
