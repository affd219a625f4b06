"""What a config's network looks like, without data and without training."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from flax import linen as nn

from optnet_jax import data
from optnet_jax.configuration import Config, TrainConfig
from optnet_jax.data.preprocessing import Preprocessing
from optnet_jax.errors import InputError
from optnet_jax.inspect import figure, summary, tpu
from optnet_jax.inspect.graph import NoGraphError
from optnet_jax.runs import program
from optnet_jax.training import experiment as experiment_lib


def network(config: Config | TrainConfig) -> tuple[nn.Module, tuple[int, int, int]]:
    """Return the network of a config and the shape of its images.

    Raises:
        InputError: if the config has no network, or names one that there is not.
    """
    if not isinstance(config, TrainConfig) and "model" not in config:
        raise InputError(
            f"{config.get('name', 'the config')} has no network to summarise: give a "
            "config that trains one"
        )
    module, spec = experiment_lib.network_of(TrainConfig.of(config))
    return module, spec.image_shape


def summarize(config: Config | TrainConfig) -> str:
    """Describe a config's network: fields, parts, shapes, parameters, multiply-adds.

    Memory is estimated for the batch size, or a micro-batch.
    """
    module, image_shape = network(config)
    config = TrainConfig.of(config)
    micro_batch = config.data.batch_size // config.optimizer.accumulate
    model = config.model
    given = ", ".join(f"{field}={value!r}" for field, value in model.fields.items())
    title = f"{config.name}: {model.name}({given}) on {config.data.dataset}"
    return f"{title}\n{summary.summarize(module, image_shape, micro_batch)}"


def on_topology(config: Config | TrainConfig, place: tpu.Topology) -> str:
    """Say what a config's training step costs on a slice of a TPU pod.

    Returns:
        Several lines: whether it fits, its traffic, the bound on its speed.

    Raises:
        InputError: see :func:`network`; or a batch that its devices do not divide.
    """
    config = TrainConfig.of(config)
    experiment, size = experiment_on(config, place), config.data.batch_size
    state = experiment.state_shapes()
    held = {
        "parameters, statistics": (state.params, state.batch_stats),
        "optimiser, average": (state.opt_state, state.average),
    }
    known = data.spec_of(config.data).num_train
    return tpu.describe(
        place,
        tpu.compile_for(place, experiment.lowered_train_step()),
        images=size,
        held={name: summary.count_bytes(tree) for name, tree in held.items()},
        total_images=experiment.total_steps * size if known else 0,
    )


def experiment_on(
    config: TrainConfig, place: tpu.Topology
) -> experiment_lib.Experiment:
    """Return the parts of a run on a slice, to be compiled: the data has no batches."""

    def describe(options: Any, *, seed: int, spec: data.Spec) -> SimpleNamespace:
        """Return what a step asks of a dataset that is compiled and not run."""
        del seed
        # A folder's mean and deviation are known once it is prepared: any numbers
        # compile alike.
        channels = spec.image_shape[2]
        mean, std = spec.mean or (0.0,) * channels, spec.std or (1.0,) * channels
        return SimpleNamespace(
            image_shape=spec.image_shape,
            preprocessing=Preprocessing(spec.image_shape, mean, std),
            steps_per_epoch=max(1, spec.num_train // options.batch_size),
        )

    return experiment_lib.build(config, place.devices, describe)


def show(config: Config | TrainConfig, workdir: Path, topology: str = "") -> None:
    """Print the summary, and draw a network of stages to ``plots/structure.png``.

    The step is compiled for a topology, a slice of a TPU pod such as "v5e:4x4".

    Raises:
        InputError: see :func:`network` and :func:`on_topology`; or if the drawing
            cannot be written.
    """
    place = tpu.topology(topology) if topology else None
    print(summarize(config), flush=True)
    if place is not None:
        program.tell(
            f"compiling the training step for {topology}: a deep dense "
            "network takes long",
            sys.stderr,
        )
        print(f"\n{on_topology(config, place)}", flush=True)
    module, _ = network(config)
    if hasattr(module, "propagations"):
        file = workdir / "plots" / "structure.png"
        try:
            figure.draw_network(module, file)
        except NoGraphError as error:
            print(f"not drawn: {error}", flush=True)
        else:
            print(f"drawn: {file}", flush=True)
