"""From a config to the objects that a run is made of."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from optnet_jax import data, networks
from optnet_jax.configuration import TrainConfig
from optnet_jax.errors import InputError
from optnet_jax.networks.fields import declared
from optnet_jax.runs.progress import say
from optnet_jax.training import sharding
from optnet_jax.training.leaves import flatten
from optnet_jax.training.optimizer import check_excluded, create_optimizer
from optnet_jax.training.schedule import learning_rate_schedule, steps_in_run
from optnet_jax.training.steps import (
    StepOptions,
    TrainState,
    create_state,
    eval_step,
    train_step,
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a run, built from its config.

    Attributes:
        config: The checked config.
        dataset: Batches; see ``optnet_jax.data``.
        module: The network.
        schedule: Learning rate as a function of the step.
        optimizer: The optimiser.
        options: What the step does beyond the recipe.
        mesh: The devices.
        total_steps: Length of the run.
    """

    config: TrainConfig
    dataset: Any
    module: nn.Module
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    options: StepOptions
    mesh: jax.sharding.Mesh
    total_steps: int

    @property
    def state_sharding(self) -> jax.sharding.NamedSharding:
        """Every device holds the whole state."""
        return sharding.replicated(self.mesh)

    @property
    def step_key(self) -> jax.Array:
        """PRNG key of the training steps, on every device."""
        # device_put does not take a key to the devices of other processes.
        make = jax.jit(
            lambda: jax.random.fold_in(jax.random.key(self.config.seed), 1),
            out_shardings=self.state_sharding,
        )
        return make()

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        return float(np.asarray(self.schedule(step)))

    def init_state(self) -> TrainState:
        """Draw the state at step 0, on every device."""
        state = self._create(jax.random.fold_in(jax.random.key(self.config.seed), 0))
        return jax.device_put(state, self.state_sharding)

    def _create(self, key: jax.Array) -> TrainState:
        return create_state(
            self.module,
            self.optimizer,
            key,
            self.dataset.image_shape,
            average=self.options.average_decay > 0,
        )

    def state_shapes(self) -> TrainState:
        """Shapes and dtypes of the state, without drawing it."""
        return self._traced[0]

    @property
    def learned(self) -> frozenset[str]:
        """Paths of the coefficients that the network learns, in ``params``."""
        return self._traced[1]

    @functools.cached_property
    def _traced(self) -> tuple[TrainState, frozenset[str]]:
        with declared() as learned:
            shapes = jax.eval_shape(self._create, jax.random.key(0))
        return shapes, frozenset(learned & flatten(shapes.params).keys())

    def compiled_train_step(self) -> Callable:
        """Put the training step under jit: state donated, batch sharded."""
        replicated, sharded = self.state_sharding, sharding.sharded(self.mesh)
        return jax.jit(
            functools.partial(
                train_step,
                module=self.module,
                optimizer=self.optimizer,
                options=self.options,
            ),
            in_shardings=(replicated, sharded, replicated),
            out_shardings=(replicated, replicated),
            donate_argnums=0,
        )

    def lowered_train_step(self) -> Any:
        """Lower the training step for shapes: ready to be compiled, without data."""
        size = self.config.data.batch_size
        batch = {
            "image": ((size, *self.dataset.image_shape), jnp.float32),
            "label": ((size,), jnp.int32),
        }
        shapes = {name: jax.ShapeDtypeStruct(*of) for name, of in batch.items()}
        key = jax.eval_shape(lambda: jax.random.key(0))
        return self.compiled_train_step().lower(self.state_shapes(), shapes, key)

    def compiled_eval_step(self) -> Callable:
        """Put the evaluation step under jit: variables replicated, batch sharded."""
        replicated, sharded = self.state_sharding, sharding.sharded(self.mesh)
        step = functools.partial(eval_step, module=self.module)
        return jax.jit(
            step, in_shardings=(replicated, sharded), out_shardings=replicated
        )


def create_network(config: TrainConfig, num_classes: int) -> nn.Module:
    """Build the network of ``config.model``.

    Args:
        config: The run's config. ``precision`` is handed to the network as ``dtype``
            unless it is float32, which is every network's default; parameters, running
            statistics and logits are float32 always.
        num_classes: Classes of the dataset, unless ``config.model`` says otherwise.

    Raises:
        InputError: for an unknown network, field or precision, or a field of another
            kind than the network's.
    """
    name = config.model.name
    fields = dict(config.model.fields)
    if config.precision != "float32":
        fields["dtype"] = getattr(jnp, config.precision)
    return networks.create(name, **{"num_classes": num_classes, **fields})


def build(
    config: TrainConfig,
    devices: Sequence[Any] | None = None,
    load: Callable[..., Any] | None = None,
) -> Experiment:
    """Build all parts of a run; loads the dataset.

    Args:
        config: The run's config.
        devices: To run on; all that there are by default.
        load: Gives the dataset, by default ``data.load``; a step that is only compiled
            needs no batches of it.

    Raises:
        InputError: for whatever in the config cannot be run, before anything slow.
    """
    module, spec = network_of(config)
    excluded = config.optimizer.decay_exclude
    if config.data.image_size or excluded:
        # A size that the network cannot take, and a name of no parameter: they would be
        # found later, too, after hours where the set is prepared first.
        image = jax.ShapeDtypeStruct((1, *spec.image_shape), jnp.float32)
        init = functools.partial(module.init, train=False)
        check_excluded(
            excluded, jax.eval_shape(init, jax.random.key(0), image)["params"]
        )
    mesh = sharding.data_mesh(devices)
    size, count = config.data.batch_size, config.optimizer.accumulate
    sharding.check_batch_size(size, mesh.devices.size, count)
    check_micro_batches(module, size, count)
    # Its fields are refused now, before the data are prepared.
    create_optimizer(config.optimizer, lambda _: config.optimizer.learning_rate)
    if load is None:
        say(f"reading {spec.name}")
    dataset = (load or data.load)(config.data, seed=config.seed, spec=spec)
    options = StepOptions(
        label_smoothing=config.loss.label_smoothing,
        accumulate=count,
        average_decay=config.average.decay,
        trivial=dataset.preprocessing if config.data.trivial_augment else None,
        erase=config.data.erase,
        mixup=config.data.mixup,
        cutmix=config.data.cutmix,
        batch_sharding=sharding.sharded(mesh),
    )
    per_epoch = dataset.steps_per_epoch
    rate = learning_rate_schedule(
        config.schedule, config.optimizer.learning_rate, per_epoch
    )
    return Experiment(
        config=config,
        dataset=dataset,
        module=module,
        schedule=rate,
        optimizer=create_optimizer(config.optimizer, rate),
        options=options,
        mesh=mesh,
        total_steps=steps_in_run(config.schedule, per_epoch),
    )


def network_of(config: TrainConfig) -> tuple[nn.Module, data.Spec]:
    """Build the network of a config, and return it with what its dataset is.

    Raises:
        InputError: as the two say, and for fewer outputs than there are classes.
    """
    spec = data.spec_of(config.data)
    module = create_network(config, spec.num_classes)
    classes = getattr(module, "num_classes", spec.num_classes)
    if classes < spec.num_classes:
        raise InputError(
            f"config.model.num_classes={classes} is less than the {spec.num_classes} "
            f"classes of {spec.name}: leave it out"
        )
    return module, spec


def has_groups(module: nn.Module) -> bool:
    """Say whether a network has BatchNorm, whose groups a batch has to hold whole."""
    return getattr(module, "batch_norm", hasattr(module, "batch_norm_group"))


def check_micro_batches(module: nn.Module, batch_size: int, count: int) -> None:
    """Refuse micro-batches, ``count`` of them, smaller than BatchNorm's groups.

    Raises:
        InputError: the step would not be that of the whole batch.
    """
    group = getattr(module, "batch_norm_group", None) or batch_size
    size = batch_size // count
    if has_groups(module) and size % group:
        raise InputError(
            f"BatchNorm takes its statistics over {group} images, a micro-batch has "
            f"{size}: set --config.model.batch_norm_group={size} (then micro-batches "
            "change nothing) or a smaller --config.optimizer.accumulate"
        )
